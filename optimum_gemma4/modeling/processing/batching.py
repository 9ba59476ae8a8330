# SPDX-License-Identifier: Apache-2.0
"""Which image belongs to which prompt of a batch.

Images are matched to placeholders in order and the counts must agree for every prompt: an image that is dropped,
repeated or cut is an error with both counts, never silence (transformers 5.23 `Gemma4Processor.validate_inputs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def images_per_prompt(
    text: str | Sequence[str] | None, images: Any, image_token: str
) -> tuple[list[str], list[list[Any]]]:
    """Brings prompts and images into one list of images per prompt.

    Args:
        text: one prompt, several, or none.
        images: none, one image, a flat list of images, a list of lists (one per prompt), or a 4-dimensional array.
            A flat list is dealt out by the number of placeholders of each prompt.
        image_token: the placeholder.

    Returns:
        The prompts, and as many lists of images.

    Raises:
        ValueError: if there is nothing to process, a prompt is not a string, lists and single images are mixed, or
            there are not as many lists as prompts, or not as many images as placeholders.
    """
    if text is None and images is None:
        raise ValueError("Neither text nor images were given; expected at least one of them.")
    prompts = None if text is None else [text] if isinstance(text, str) else list(text)
    if prompts is not None and not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError("`text` must be a string or a list of strings; pre-tokenized prompts are not supported.")
    images = [] if images is None else _as_list(images)
    is_nested = any(isinstance(element, (list, tuple)) for element in images)
    if is_nested and not all(isinstance(element, (list, tuple)) for element in images):
        raise ValueError("`images` mixes images and lists of images; expected images only, or one list per prompt.")
    if prompts is None:
        images = images if is_nested else [images]
        return [" ".join([image_token] * len(group)) for group in images], [list(group) for group in images]
    if is_nested:
        if len(images) != len(prompts):
            raise ValueError(f"Got {len(prompts)} prompts and {len(images)} lists of images; expected one list each.")
        return prompts, [list(group) for group in images]
    return prompts, _deal(prompts, images, image_token)


def require_matching_counts(prompts: list[str], items: list[Any], token: str, kind: str) -> None:
    """Checks that placeholders and images (or videos) agree.

    Args:
        prompts: the prompts.
        items: one list of items per prompt, or a flat list for the whole batch.
        token: the placeholder.
        kind: `image`, whose items are per prompt, or `video`, whose items are flat.

    Raises:
        ValueError: with both counts, and the prompt's index where it is known.
    """
    wanted = [prompt.count(token) for prompt in prompts]
    if kind == "video":
        if sum(wanted) != len(items):
            raise ValueError(
                f"The prompts have {sum(wanted)} {token} placeholders, but {len(items)} videos were given."
            )
        return
    for index, (count, group) in enumerate(zip(wanted, items, strict=True)):
        if count != len(group):
            raise ValueError(f"Prompt {index} has {count} {token} placeholders, but {len(group)} images were given.")


def _as_list(images: Any) -> list[Any]:
    if isinstance(images, (list, tuple)):
        return list(images)
    return list(images) if getattr(images, "ndim", 0) == 4 else [images]


def _deal(prompts: list[str], images: list[Any], token: str) -> list[list[Any]]:
    wanted = [prompt.count(token) for prompt in prompts]
    if len(prompts) > 1 and sum(wanted) != len(images):
        raise ValueError(f"The prompts have {wanted} {token} placeholders, but {len(images)} images were given.")
    if len(prompts) == 1:
        return [images]
    rest = iter(images)
    return [[next(rest) for _ in range(count)] for count in wanted]
