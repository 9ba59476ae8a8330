# SPDX-License-Identifier: Apache-2.0
"""Options of a call of the processor, by what they are for.

Mirrors transformers 5.23 `Gemma4ImageProcessorKwargs` and `Gemma4VideoProcessorKwargs` in the form that transformers
4.57's `ProcessorMixin` sorts a call's keyword arguments by: an option given flat goes to every group that names it.
"""

from typing import TypedDict

from transformers.processing_utils import ImagesKwargs, ProcessingKwargs, VideosKwargs


class BudgetKwargs(TypedDict, total=False):
    """How an image, or each frame of a video, is cut into soft tokens."""

    patch_size: int | None
    max_soft_tokens: int | None
    pooling_kernel_size: int | None


class Gemma4ImagesKwargs(ImagesKwargs, BudgetKwargs, total=False):
    """Options of the image processor that a call may set."""


class Gemma4VideosKwargs(VideosKwargs, BudgetKwargs, total=False):
    """Options of videos that a call may set; those given flat are for images and frames alike."""


class Gemma4ProcessorKwargs(ProcessingKwargs, total=False):
    """Options of a call, with the defaults of transformers 5.23."""

    images_kwargs: Gemma4ImagesKwargs
    videos_kwargs: Gemma4VideosKwargs
    _defaults = {"text_kwargs": {"padding": True, "return_mm_token_type_ids": True}}


# Names of the options of a call, for those who pass some of them on
CALL_OPTIONS = {
    name for group in Gemma4ProcessorKwargs.__annotations__.values() for name in getattr(group, "__annotations__", ())
} | {"text_kwargs", "images_kwargs", "videos_kwargs", "common_kwargs"}
