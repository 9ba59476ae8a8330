# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 image processor: resize to a patch budget, cut into 16 x 16 patches, number them.

Unlike Gemma 3 (one fixed square) an image keeps its aspect ratio: it is scaled, up or down, to fill the budget of
`max_soft_tokens` cells of 48 x 48 pixels. Equal bit for bit to transformers 5.23 `Gemma4ImageProcessorPil`; written on
transformers 4.57's `BaseImageProcessor` with numpy and Pillow only.
In: images. Out: pixel_values [images, 9 * max_soft_tokens, 768] in 0..1, image_position_ids [.., 2] as (x, y) with -1
at padding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_transforms import resize
from transformers.image_utils import ChannelDimension, ImageInput, PILImageResampling
from transformers.utils import TensorType

from .image_loading import read_image, to_rgb


SUPPORTED_SOFT_TOKENS = (70, 140, 280, 560, 1120)


def target_size(
    height: int, width: int, patch_size: int = 16, max_soft_tokens: int = 280, pooling_kernel_size: int = 3
) -> tuple[int, int]:
    """Size in pixels that an image is resized to (transformers 5.23 `get_aspect_ratio_preserving_size`).

    The largest size of (nearly) the same aspect ratio within the budget whose sides are whole cells, a cell being
    `pooling_kernel_size * patch_size` pixels wide. A side that would vanish is one cell.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        patch_size: side of a patch, in pixels.
        max_soft_tokens: the budget, in cells.
        pooling_kernel_size: side of a cell, in patches.

    Returns:
        (height, width) in pixels; `height * width / cell ** 2` is the number of soft tokens.

    Raises:
        ValueError: if a side is 0.
    """
    if height < 1 or width < 1:
        raise ValueError(f"The image has size {height} x {width} (height x width); expected at least one pixel.")
    cell = pooling_kernel_size * patch_size
    factor = math.sqrt(max_soft_tokens * cell**2 / (height * width))
    target_height = math.floor(factor * height / cell) * cell
    target_width = math.floor(factor * width / cell) * cell
    if target_height == 0:
        return cell, min(width // height, max_soft_tokens) * cell
    if target_width == 0:
        return min(height // width, max_soft_tokens) * cell, cell
    return target_height, target_width


def soft_token_counts(image_position_ids: Any, pooling_kernel_size: int = 3) -> list[int]:
    """Number of soft tokens of each image, counted on the host from the position ids.

    Args:
        image_position_ids: array or tensor [images, patches, 2], -1 at padding.
        pooling_kernel_size: side of a pooling cell, in patches.

    Returns:
        One count per image; 0 for an image of padding only.

    Raises:
        ValueError: if an image's patches do not fill whole cells.
    """
    patches = (np.asarray(image_position_ids) != -1).all(axis=-1).sum(axis=-1)
    if (patches % pooling_kernel_size**2).any():
        raise ValueError(
            f"Images have {patches.tolist()} patches; expected multiples of {pooling_kernel_size**2}. The position "
            "ids were not made by Gemma4ImageProcessor."
        )
    return (patches // pooling_kernel_size**2).tolist()


def to_patches(image: np.ndarray, patch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts an image into patches, row by row.

    Args:
        image: array [3, H, W], H and W multiples of `patch_size`.
        patch_size: side of a patch, in pixels.

    Returns:
        Patches [P, patch_size * patch_size * 3] with (row, column, channel) order inside a patch, and their positions
        [P, 2] as (x, y), int64.
    """
    channels, height, width = image.shape
    rows, columns = height // patch_size, width // patch_size
    patches = image.reshape(channels, rows, patch_size, columns, patch_size).transpose(1, 3, 2, 4, 0)
    y, x = np.divmod(np.arange(rows * columns), columns)
    return patches.reshape(rows * columns, -1), np.stack([x, y], axis=-1)


class Gemma4ImageProcessor(BaseImageProcessor):
    """Prepares images for the Gemma 4 vision encoder.

    Args:
        do_convert_rgb: accepted because published configurations carry it; images always become RGB.
        do_resize: resize to the budget; without it both sides must be whole cells within the budget.
        resample: PIL filter of the resize.
        do_rescale: multiply pixels by `rescale_factor`.
        rescale_factor: 1 / 255.
        do_normalize: off for Gemma 4: the encoder itself scales to -1..1.
        image_mean: used only with `do_normalize`.
        image_std: used only with `do_normalize`.
        patch_size: side of a patch, in pixels.
        max_soft_tokens: budget per image, one of 70, 140, 280, 560, 1120.
        pooling_kernel_size: side of a pooling cell, in patches.
        **kwargs: further keys of a published configuration, kept and saved again.

    Raises:
        ValueError: if `max_soft_tokens` is not a supported budget.
    """

    model_input_names = ["pixel_values", "image_position_ids", "num_soft_tokens_per_image"]

    def __init__(
        self,
        do_convert_rgb: bool = True,
        do_resize: bool = True,
        resample: int = PILImageResampling.BICUBIC,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = False,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        patch_size: int = 16,
        max_soft_tokens: int = 280,
        pooling_kernel_size: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.do_convert_rgb = do_convert_rgb
        self.do_resize = do_resize
        self.resample = resample
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = image_mean if image_mean is not None else [0.0, 0.0, 0.0]
        self.image_std = image_std if image_std is not None else [1.0, 1.0, 1.0]
        self.patch_size = patch_size
        self.max_soft_tokens = _supported(max_soft_tokens)
        self.pooling_kernel_size = pooling_kernel_size

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Reads paths, URLs, base64 strings and bytes; nested lists keep their shape."""
        if isinstance(image_url_or_urls, (list, tuple)):
            return [self.fetch_images(image) for image in image_url_or_urls]
        return read_image(image_url_or_urls, "The image")

    def preprocess(
        self, images: ImageInput, *, return_tensors: str | TensorType | None = None, **overrides: Any
    ) -> BatchFeature:
        """Preprocesses images.

        Args:
            images: one image or (nested) lists of images, of any kind `read_image` takes.
            return_tensors: `"pt"` or `"np"`; `None` gives numpy arrays.
            **overrides: any constructor argument, for this call; and `input_data_format` for arrays.

        Returns:
            `pixel_values` float32 [images, P, 3 * patch_size ** 2], `image_position_ids` int64 [images, P, 2] and
            `num_soft_tokens_per_image`, with P = `max_soft_tokens * pooling_kernel_size ** 2`.

        Raises:
            ValueError: naming the image, if it cannot be used; or if there are no images.
        """
        options = {**vars(self), **{key: value for key, value in overrides.items() if value is not None}}
        budget = _supported(options["max_soft_tokens"]) * options["pooling_kernel_size"] ** 2
        flat = _flatten(images)
        if not flat:
            raise ValueError("No images were given; expected at least one.")
        pixel_values, position_ids, counts = [], [], []
        for index, source in enumerate(flat):
            image = self._prepare(source, f"image {index}", options)
            patches, positions = to_patches(image, options["patch_size"])
            counts.append(len(patches) // options["pooling_kernel_size"] ** 2)
            padding = [(0, budget - len(patches)), (0, 0)]
            pixel_values.append(np.pad(patches, padding))
            position_ids.append(np.pad(positions, padding, constant_values=-1))
        data = {
            "pixel_values": np.stack(pixel_values),  # [P, 768] * images -> [images, P, 768]
            "image_position_ids": np.stack(position_ids),
            "num_soft_tokens_per_image": counts,
        }
        return BatchFeature(data=data, tensor_type=return_tensors)

    def to_dict(self) -> dict[str, Any]:
        """Serialises the configuration, without transformers' private keys."""
        return {key: value for key, value in super().to_dict().items() if not key.startswith("_")}

    def _prepare(self, source: Any, name: str, options: dict[str, Any]) -> np.ndarray:
        image = to_rgb(read_image(source, name), name, options.get("input_data_format"))
        if options["do_rescale"] and np.issubdtype(image.dtype, np.floating) and 0 < image.max() <= 1:
            raise ValueError(
                f"{name} is a {image.dtype} array with values up to {image.max()}: it looks already rescaled, and "
                "would be rescaled again. Pass uint8 values, or `do_rescale=False`."
            )
        if options["do_resize"]:
            size = target_size(
                *image.shape[1:], options["patch_size"], options["max_soft_tokens"], options["pooling_kernel_size"]
            )
            if size != image.shape[1:]:
                image = resize(image, size, options["resample"], input_data_format=ChannelDimension.FIRST)
        self._require_cells(image, name, options)
        if options["do_rescale"]:
            image = self.rescale(image, options["rescale_factor"], input_data_format=ChannelDimension.FIRST)
        if options["do_normalize"]:
            image = self.normalize(
                image, options["image_mean"], options["image_std"], input_data_format=ChannelDimension.FIRST
            )
        return image

    @staticmethod
    def _require_cells(image: np.ndarray, name: str, options: dict[str, Any]) -> None:
        cell = options["patch_size"] * options["pooling_kernel_size"]
        _, height, width = image.shape
        if height % cell or width % cell or height * width > options["max_soft_tokens"] * cell**2:
            raise ValueError(
                f"{name} is {height} x {width} pixels; without `do_resize` both sides must be multiples of {cell} and "
                f"the area at most {options['max_soft_tokens']} cells of {cell} x {cell}."
            )


def _supported(max_soft_tokens: int) -> int:
    if max_soft_tokens not in SUPPORTED_SOFT_TOKENS:
        raise ValueError(f"`max_soft_tokens` must be one of {SUPPORTED_SOFT_TOKENS}, got {max_soft_tokens}.")
    return max_soft_tokens


def _flatten(images: Any) -> list[Any]:
    if isinstance(images, (list, tuple)):
        return [image for element in images for image in _flatten(element)]
    return list(images) if getattr(images, "ndim", 0) == 4 else [images]
