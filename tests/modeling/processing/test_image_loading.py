# SPDX-License-Identifier: Apache-2.0
"""Every way to name an image, and every image that must be refused with an error that names it."""

import base64
import io

import numpy as np
import PIL.Image
import pytest
import torch

from optimum_gemma4.modeling.processing import Gemma4ImageProcessor
from optimum_gemma4.modeling.processing.image_loading import read_image, to_rgb
from tests.modeling.processing.toy_images import drawn_image


@pytest.fixture
def picture() -> PIL.Image.Image:
    return drawn_image(5, 30, 50)


def encoded(image: PIL.Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_every_kind_of_source_gives_the_same_pixels(picture, tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(encoded(picture))
    text = base64.b64encode(encoded(picture)).decode()
    sources = [
        picture,
        np.array(picture),
        torch.from_numpy(np.array(picture)),
        file,
        str(file),
        encoded(picture),
        bytearray(encoded(picture)),
        text,
        f"data:image/png;base64,{text}",
    ]
    for source in sources:
        assert np.array_equal(to_rgb(read_image(source, "image 0"), "image 0"), np.array(picture).transpose(2, 0, 1))


def test_exif_orientation_of_files_is_applied(picture, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    data = encoded(picture, "PNG", exif=exif)
    turned = np.array(picture.transpose(PIL.Image.Transpose.ROTATE_270)).transpose(2, 0, 1)
    assert np.array_equal(to_rgb(read_image(data, "image 0"), "image 0"), turned)
    (tmp_path / "turned.png").write_bytes(data)
    assert np.array_equal(to_rgb(read_image(tmp_path / "turned.png", "image 0"), "image 0"), turned)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_truncated_files_are_refused(picture, format):
    data = encoded(drawn_image(1, 200, 200), format)
    with pytest.raises(ValueError, match="image 1 .*cannot be read"):
        Gemma4ImageProcessor()([picture, data[: len(data) // 2]])


def test_truncated_pil_image_is_refused(picture):
    data = encoded(drawn_image(1, 200, 200), "JPEG")
    lazy = PIL.Image.open(io.BytesIO(data[: len(data) // 2]))
    with pytest.raises(ValueError, match="image 0 .*cannot be read.*truncated"):
        Gemma4ImageProcessor()(lazy)


@pytest.mark.parametrize("source", ["no such file.png", "", b"", b"not an image at all", "https://"])
def test_what_is_not_an_image_is_refused(source, picture):
    with pytest.raises(ValueError, match="image 1 .*cannot be read"):
        Gemma4ImageProcessor()([picture, source])


@pytest.mark.parametrize("source", [None, 7, object(), {"url": "x"}])
def test_other_types_are_refused(source):
    with pytest.raises(ValueError, match=f"image 0 is a {type(source).__name__}"):
        Gemma4ImageProcessor()([source])


def test_decompression_bomb_is_refused(monkeypatch):
    data = encoded(PIL.Image.new("1", (3000, 3000)))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1_000_000)  # Pillow raises at twice its limit
    with pytest.raises(ValueError, match="image 0 .*decompression bomb"):
        Gemma4ImageProcessor()(data)


@pytest.mark.parametrize(
    "image",
    [
        PIL.Image.new("RGB", (0, 5)),
        PIL.Image.new("L", (5, 0)),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 0), np.uint8),
    ],
)
def test_images_without_pixels_are_refused(image):
    with pytest.raises(ValueError, match="image 0 has size .*at least one pixel"):
        Gemma4ImageProcessor()(image)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_samples_wider_than_8_bits_are_refused(dtype):
    """transformers clips them to white without a word."""
    wide = np.linspace(0, 65535, 600).reshape(20, 30).astype(dtype)
    for source in (wide, PIL.Image.fromarray(wide), encoded(PIL.Image.fromarray(wide), "TIFF")):
        with pytest.raises(ValueError, match="image 0 has .*Scale it to 8 bits"):
            Gemma4ImageProcessor()(source)


@pytest.mark.parametrize("value", [-1.0, 256.0, np.nan, np.inf])
def test_values_outside_8_bits_are_refused(value):
    array = np.full((20, 30, 3), 7.5)
    array[3, 4, 1] = value
    with pytest.raises(ValueError, match=r"image 0 has values from .*0\.\.255"):
        Gemma4ImageProcessor()(array)


@pytest.mark.parametrize("shape", [(1, 50, 3), (3, 50, 3), (4, 9, 1)])
def test_ambiguous_channel_axis_is_refused_and_can_be_named(shape):
    array = np.zeros(shape, dtype=np.uint8)
    with pytest.raises(ValueError, match="image 0 has shape .*first or last"):
        Gemma4ImageProcessor()(array)
    rgb = to_rgb(array, "image 0", "channels_last")
    assert rgb.shape == (3, *shape[:2])
    assert to_rgb(array, "image 0", "channels_first").shape == (3, *shape[1:])


@pytest.mark.parametrize("shape", [(5,), (50, 50, 2), (5, 50, 50), (2, 3, 50, 50, 3)])
def test_arrays_that_are_no_image_are_refused(shape):
    with pytest.raises(ValueError, match="image 0 has shape"):
        Gemma4ImageProcessor()(np.zeros(shape, dtype=np.uint8))


def test_gray_array_of_two_dimensions():
    gray = np.array(drawn_image(2, 60, 90).convert("L"))
    wanted = Gemma4ImageProcessor()(PIL.Image.fromarray(gray))["pixel_values"]
    assert np.array_equal(Gemma4ImageProcessor()(gray)["pixel_values"], wanted)


def test_float_alpha_above_one_is_refused():
    with pytest.raises(ValueError, match="image 0 is a float array with an alpha"):
        Gemma4ImageProcessor()(np.full((20, 30, 4), 200.0))
