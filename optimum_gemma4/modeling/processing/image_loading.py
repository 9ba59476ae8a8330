# SPDX-License-Identifier: Apache-2.0
"""From whatever a user calls an image to an array [3, height, width].

Takes PIL images, numpy arrays, torch tensors, paths, URLs, base64 strings and raw bytes. Follows transformers 5.23
(`image_utils.load_image`, `PilBackend.process_image`, `image_transforms.convert_to_rgb`), which is newer than the
transformers 4.57 underneath: transparency of PIL images and arrays is composited onto white, files are turned by their
EXIF orientation. What would silently become a wrong picture there (16-bit samples clipped to white, an array that is
already in 0..1, an ambiguous channel axis) is refused here with a `ValueError` that names the image.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from transformers.image_utils import ChannelDimension, load_image


# PIL modes with more than 8 bits a sample; `convert("RGB")` clips them at 255 instead of scaling.
_WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_CHANNELS = (1, 3, 4)
_URL_TIMEOUT_SECONDS = 60.0


def read_image(source: Any, name: str) -> PIL.Image.Image | np.ndarray:
    """Turns one image source into a decoded PIL image or a numpy array.

    Args:
        source: PIL image, numpy array, torch tensor, path, `http(s)://` URL, base64 string (with or without a
            `data:image/...` prefix) or the bytes of an image file.
        name: how error messages call this image, such as `image 2`.

    Returns:
        The array itself for arrays and tensors, otherwise a PIL image whose pixels are decoded.

    Raises:
        ValueError: if the source cannot be read, is truncated, empty or too large, or is of another type.
    """
    if isinstance(source, np.ndarray):
        return source
    if hasattr(source, "detach"):
        return source.detach().cpu().numpy()
    try:
        if isinstance(source, PIL.Image.Image):
            source.load()
            return source
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _from_file(BytesIO(bytes(source)), name)
        if isinstance(source, os.PathLike) or (isinstance(source, str) and os.path.isfile(source)):
            return _from_file(source, name)
        if isinstance(source, str):
            return load_image(source, timeout=_URL_TIMEOUT_SECONDS)
    # PIL raises SyntaxError for broken PNG chunks, EOFError and IndexError for short streams of other formats.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, PIL.Image.DecompressionBombError) as error:
        if isinstance(error, ValueError) and str(error).startswith(name):
            raise
        raise ValueError(
            f"{name} ({_short(source)}) cannot be read: {_short(error)}. Expected a path, URL, base64 string or the "
            "bytes of a complete image file."
        ) from error
    raise ValueError(
        f"{name} is a {type(source).__name__}; expected a PIL image, a numpy array, a torch tensor, a path, a URL, a "
        "base64 string or bytes."
    )


def to_rgb(
    image: PIL.Image.Image | np.ndarray, name: str, input_data_format: str | ChannelDimension | None = None
) -> np.ndarray:
    """Converts a decoded image to three channels, channels first.

    Args:
        image: PIL image of any mode, or an array [H, W], [C, H, W] or [H, W, C] with 1, 3 or 4 channels and values
            in 0..255 (or 0..1, see `Gemma4ImageProcessor.preprocess`).
        name: how error messages call this image.
        input_data_format: channel axis of an array; inferred when there is only one candidate.

    Returns:
        Array [3, H, W], uint8 for PIL images, otherwise of the array's dtype.

    Raises:
        ValueError: if a side is 0, the samples are wider than 8 bits, or the channel axis is unclear.
    """
    if isinstance(image, PIL.Image.Image):
        _require_pixels(image.size[::-1], name)
        return np.moveaxis(np.array(_composite_on_white(_require_8_bits(image, name))), -1, 0)
    array = _channels_first(image, name, input_data_format)
    _require_pixels(array.shape[1:], name)
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255):
        raise ValueError(f"{name} has values from {low} to {high}; expected 0..255. Scale it to 8 bits first.")
    if array.shape[0] == 1:
        return np.repeat(array, 3, axis=0)
    return array if array.shape[0] == 3 else _blend_on_white(array, name)


def _from_file(file: Any, name: str) -> PIL.Image.Image:
    image = PIL.Image.open(file)
    image.load()
    return PIL.ImageOps.exif_transpose(_require_8_bits(image, name)).convert("RGB")


def _require_8_bits(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if image.mode in _WIDE_MODES and image.size[0] and image.size[1] and image.getextrema()[1] > 255:
        raise ValueError(
            f"{name} has mode {image.mode} with values up to {image.getextrema()[1]}; converting it to RGB would clip "
            "at 255. Scale it to 8 bits first."
        )
    return image


def _require_pixels(size: tuple[int, ...], name: str) -> None:
    if 0 in size:
        raise ValueError(f"{name} has size {size[0]} x {size[1]} (height x width); expected at least one pixel.")


def _composite_on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, (255, 255, 255, 255))
    return PIL.Image.alpha_composite(white, image).convert("RGB")


def _blend_on_white(array: np.ndarray, name: str) -> np.ndarray:
    is_integer = np.issubdtype(array.dtype, np.integer)
    if not is_integer and array.max() > 1:
        raise ValueError(f"{name} is a float array with an alpha channel and values above 1; expected uint8 or 0..1.")
    white = 255 if is_integer else 1.0
    alpha = array[3:4] / white
    blended = alpha * array[:3] + (1 - alpha) * white
    return (np.round(blended) if is_integer else blended).astype(array.dtype)


def _channels_first(array: np.ndarray, name: str, input_data_format: str | ChannelDimension | None) -> np.ndarray:
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3:
        raise ValueError(f"{name} has shape {array.shape}; expected [H, W], [C, H, W] or [H, W, C].")
    first, last = array.shape[0] in _CHANNELS, array.shape[2] in _CHANNELS
    if input_data_format is not None:
        first, last = input_data_format == ChannelDimension.FIRST, input_data_format == ChannelDimension.LAST
        channels = array.shape[0] if first else array.shape[2]
        if channels not in _CHANNELS:
            raise ValueError(f"{name} has {channels} channels in shape {array.shape}; expected 1, 3 or 4.")
    if first and last:
        raise ValueError(
            f"{name} has shape {array.shape}, which may be channels first or last; pass `input_data_format` or a PIL "
            "image."
        )
    if not first and not last:
        raise ValueError(f"{name} has shape {array.shape}; expected 1, 3 or 4 channels on the first or last axis.")
    return array if first else np.moveaxis(array, -1, 0)


def _short(value: Any) -> str:
    text = f"{len(value)} bytes" if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
    return text if len(text) <= 120 else text[:117] + "..."
