# SPDX-License-Identifier: Apache-2.0
"""How far ahead each token of a prompt may look on sliding layers: the host's part of the one mask rule.

An image token sees the whole block of image (or video frame) tokens that it stands in, every other token sees up to
itself. A block is a run of vision tokens with nothing between them, so that images, which the processor puts between
two marker tokens, are blocks of their own. Mirrors transformers 5.23 `get_block_sequence_ids_for_mask`;
`text/masks.py` has the rest of the rule. [B, S] -> [B, S].
"""

import torch


__all__ = ["block_ends", "check_lookahead"]

# Values of mm_token_type_ids: 0 text, 1 image, 2 video, 3 audio
VISION_TYPES = (1, 2)


def block_ends(token_types: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
    """Last position that each token may see on sliding layers.

    Args:
        token_types: int [B, S], `mm_token_type_ids` of prompts that start at column 0.
        position_ids: int [B, S]; the column's number, or -1 for the padding behind a prompt.

    Returns:
        int [B, S]: the last position of the block for its tokens, the position itself elsewhere (-1 for padding).
    """
    is_vision = torch.isin(token_types, torch.tensor(VISION_TYPES, dtype=token_types.dtype)) & (position_ids >= 0)
    columns = torch.arange(position_ids.shape[1]).expand_as(position_ids)
    next_is_vision = torch.nn.functional.pad(is_vision[:, 1:], (0, 1))
    is_last = is_vision & ~next_is_vision
    # The nearest end of a block at or after each column
    ends = columns.masked_fill(~is_last, position_ids.shape[1]).flip(1).cummin(1).values.flip(1)
    return torch.where(is_vision, ends.to(position_ids.dtype), position_ids)


def check_lookahead(end: torch.Tensor, position_ids: torch.Tensor, limit: int) -> None:
    """Refuse blocks that the compiled sliding layers do not reach across.

    Args:
        end: of `block_ends`.
        position_ids: int [B, S].
        limit: tokens of the longest block, the largest compiled image budget.

    Raises:
        ValueError: a block is longer.
    """
    longest = int((end - position_ids).max()) + 1
    if longest > limit:
        raise ValueError(
            f"{longest} image tokens follow each other without anything between them, and the largest compiled image "
            f"has {limit} (--max_soft_tokens): put the marker tokens around every image, as Gemma4Processor does."
        )
