# SPDX-License-Identifier: Apache-2.0
"""What users give as images, through an artifact's processor: taken as it looks, or refused in one line."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import torch
from commands import PICTURE, QUESTION
from transformers import AutoProcessor

from optimum_gemma4 import Gemma4Processor, NeuronModelForImageTextToText
from tools.tiny_pictures import draw


@pytest.fixture(scope="module")
def processor(cli_export) -> Gemma4Processor:
    processor = AutoProcessor.from_pretrained(cli_export[1])
    assert type(processor) is Gemma4Processor
    return processor


@pytest.fixture(scope="module")
def model(cli_export):
    return NeuronModelForImageTextToText.from_pretrained(cli_export[1])


@pytest.fixture(scope="module")
def picture() -> PIL.Image.Image:
    return draw(PICTURE)[0]


def _ask(processor, *parts):
    content = [*parts, {"type": "text", "text": QUESTION}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip


def _image(source) -> dict:
    return {"type": "image", "image": source}


def _file(image: PIL.Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _bomb() -> bytes:
    """A PNG of a hundred bytes that says it is 60,000 x 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    end = b"IEND"
    chunks = (struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in (header, end))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _turned(image: PIL.Image.Image) -> bytes:
    """A camera's file: the pixels lie on their side, and a tag says so."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return _file(image.transpose(PIL.Image.Transpose.ROTATE_90), exif=exif)


def _on_a_transparent_ground(image: PIL.Image.Image) -> PIL.Image.Image:
    image = image.convert("RGBA")
    image.putalpha(image.convert("L").point(lambda value: 255 if value < 230 else 0))
    return image


@pytest.mark.parametrize(
    "source",
    [
        lambda image: image.convert("CMYK"),
        lambda image: _file(image.convert("CMYK"), "JPEG", quality=95),
        lambda image: image.convert("P", palette=PIL.Image.Palette.ADAPTIVE),
        lambda image: _file(image.convert("P", palette=PIL.Image.Palette.ADAPTIVE), "GIF"),
        _turned,
        _on_a_transparent_ground,
        lambda image: np.asarray(image).transpose(2, 0, 1),
        lambda image: np.asarray(image).astype(np.float32),
        lambda image: torch.from_numpy(np.array(image)),
        lambda image: _file(image, "WEBP", lossless=True),
    ],
    ids=["CMYK", "CMYK file", "palette", "GIF", "EXIF", "alpha", "channels first", "float", "tensor", "WebP"],
)
def test_an_image_of_another_kind_is_the_picture_it_shows(processor, picture, source):
    wanted = _ask(processor, _image(picture))
    inputs = _ask(processor, _image(source(picture)))
    for name in ("input_ids", "image_position_ids"):
        assert torch.equal(inputs[name], wanted[name])
    # Of colours in 0..1; a lossy file, few colours and a white ground change some of them a little
    assert (inputs["pixel_values"] - wanted["pixel_values"]).abs().mean() < 0.07


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda image, folder: _bomb(), "image 1 .*cannot be read: Image size .3600000000 pixels. exceeds limit"),
        (lambda image, folder: _file(image)[:-300], "image 1 .*cannot be read"),
        (lambda image, folder: _file(image, "JPEG")[:1500], "image 1 .*cannot be read"),
        (lambda image, folder: b"", "image 1 .0 bytes. cannot be read"),
        (lambda image, folder: folder / "absent.png", "image 1 .*absent.png. cannot be read"),
        (lambda image, folder: str(folder / "absent.png"), "image 1 .*absent.png. cannot be read"),
        (lambda image, folder: np.zeros((0, 8, 3), np.uint8), "image 1 has size 0 x 8"),
        (lambda image, folder: PIL.Image.new("RGB", (8, 0)), "image 1 has size 0 x 8"),
        (
            lambda image, folder: PIL.Image.fromarray(np.full((8, 8), 40_000, np.uint16)),
            "image 1 has mode I;16 with values up to 40000.*Scale it to 8 bits",
        ),
        (
            lambda image, folder: np.full((8, 8, 3), 40_000, np.uint16),
            "image 1 has values from 40000.*expected 0..255",
        ),
        (lambda image, folder: np.asarray(image) / 255, "image 1 .*looks already rescaled"),
        (lambda image, folder: 7, "image 1 is a int; expected a PIL image"),
    ],
    ids=["bomb", "cut PNG", "cut JPEG", "empty", "path", "string", "no rows", "no height", "16 bits", "uint16", "0..1",
         "number"],
)  # fmt: skip
def test_an_image_that_cannot_be_shown_is_refused_by_its_number(processor, picture, tmp_path, source, message):
    with pytest.raises(ValueError, match=message) as refusal:
        _ask(processor, _image(picture), _image(source(picture, tmp_path)))
    assert "\n" not in str(refusal.value)


def test_frames_of_a_video_are_seen(processor, model, picture):
    """70 soft tokens at most for each frame, with its time; a different frame gives another answer to the prompt."""
    metadata = [{"fps": 1.0, "frames_indices": [0]}]
    content = [{"type": "video", "video": [picture]}, {"type": "text", "text": QUESTION}]
    rendered = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def tokens(frame):
        inputs = processor(text=rendered, videos=[[frame]], video_metadata=metadata, return_tensors="pt")
        assert int((inputs["mm_token_type_ids"] == 2).sum()) <= 70 and "00:00" in processor.decode(
            inputs["input_ids"][0]
        )
        return model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]

    assert len(tokens(picture)) and not torch.equal(tokens(picture), tokens(draw(PICTURE + 1)[0].resize(picture.size)))
