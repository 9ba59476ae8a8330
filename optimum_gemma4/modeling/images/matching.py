# SPDX-License-Identifier: Apache-2.0
"""Which image belongs to which placeholders of which prompt.

Images come as one list for the whole batch, in the order of the prompts. Each run of placeholders takes the next
images until their soft tokens fill it exactly: an image that is left over, missing, cut or spread over two runs is an
error with both counts. transformers 5.23 compares the total alone (`Gemma4Model.forward`). Frames of videos have
placeholders and a list of their own.
"""

from dataclasses import dataclass

import torch


__all__ = ["IMAGE", "KIND_NAMES", "VIDEO", "PlaceholderIds", "match_images"]

# As in mm_token_type_ids
IMAGE, VIDEO = 1, 2
KIND_NAMES = {IMAGE: "image", VIDEO: "video frame"}


@dataclass(frozen=True)
class PlaceholderIds:
    """Token ids that stand for soft tokens; `None` where the model has no such token."""

    image: int | None
    video: int | None
    audio: int | None

    def kinds(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """`IMAGE`, `VIDEO` or 0 for every token, [B, S] -> [B, S]; 0 for padding."""
        kinds = torch.zeros_like(input_ids)
        for token_id, kind in ((self.image, IMAGE), (self.video, VIDEO)):
            if token_id is not None:
                kinds = kinds.masked_fill(input_ids == token_id, kind)
        return kinds.masked_fill(position_ids < 0, 0)

    def replaced(self, input_ids: torch.Tensor, pad_token_id: int) -> torch.Tensor:
        """The ids with every placeholder, of audio too, replaced by the pad id: what transformers embeds there."""
        for token_id in (self.image, self.video, self.audio):
            if token_id is not None:
                input_ids = input_ids.masked_fill(input_ids == token_id, pad_token_id)
        return input_ids


def match_images(kinds: torch.Tensor, counts: dict[int, list[int]]) -> list[list[tuple[int, int]]]:
    """Deal out images to prompts.

    Args:
        kinds: [B, S], of `PlaceholderIds.kinds`.
        counts: soft tokens of each image in the list of its kind.

    Returns:
        For each prompt its images in order, as (kind, index in the list of that kind).

    Raises:
        ValueError: placeholders and images do not fit, with both counts.
    """
    runs = [_runs(row) for row in kinds.tolist()]
    for kind, given in counts.items():
        _check_totals(kind, [[length for of, length in row if of == kind] for row in runs], given)
    next_index = dict.fromkeys(counts, 0)
    matched = []
    for number, row in enumerate(runs):
        images = []
        for kind, length in row:
            first, filled = next_index[kind], 0
            while filled < length:
                filled += counts[kind][next_index[kind]]
                images.append((kind, next_index[kind]))
                next_index[kind] += 1
            if filled != length:
                taken = counts[kind][first : next_index[kind]]
                raise ValueError(
                    f"Prompt {number} has {length} {KIND_NAMES[kind]} tokens in a row where the {KIND_NAMES[kind]}s "
                    f"from number {first} on have {taken} soft tokens: images must come in their placeholders' order."
                )
        matched.append(images)
    return matched


def _runs(kinds: list[int]) -> list[tuple[int, int]]:
    """Lengths of the runs of equal kinds other than 0, in order."""
    runs: list[tuple[int, int]] = []
    previous = 0
    for kind in kinds:
        if kind and kind == previous:
            runs[-1] = (kind, runs[-1][1] + 1)
        elif kind:
            runs.append((kind, 1))
        previous = kind
    return runs


def _check_totals(kind: int, runs: list[list[int]], given: list[int]) -> None:
    wanted = sum(map(sum, runs))
    if wanted != sum(given):
        raise ValueError(
            f"The prompts have {wanted} {KIND_NAMES[kind]} tokens (in runs of {runs}, by prompt) and the {len(given)} "
            f"{KIND_NAMES[kind]}s given have {sum(given)} soft tokens ({given}): give every placeholder its image, "
            "and the prompts as Gemma4Processor returned them."
        )
