# SPDX-License-Identifier: Apache-2.0
"""The one mask rule of Gemma 4, mirrors transformers 5.23 `create_masks_for_vision_model` as a function of positions.

Query at position i, key at position j, W the window, `end` the last position that the query may see:

    allowed  <=>  0 <= j <= end  and  (global layer  or  j > i - W)

| query                                   | layer   | end | sees                                  |
|-----------------------------------------|---------|-----|---------------------------------------|
| text at i                               | global  | i   | 0 .. i                                |
| text at i                               | sliding | i   | i-W+1 .. i: W keys, itself included   |
| image token at i of a block ending at e | global  | i   | 0 .. i: never bidirectional           |
| image token at i of a block ending at e | sliding | e   | i-W+1 .. e: ahead without limit       |
| generated token at i                    | both    | i   | as text, after an image too           |
| padding, unused row                     | both    | -1  | nothing                               |

The attention entry points apply the rule: `prefill_attention` by `end` and `window`, keys being at their own index;
`cached_attention` by the age of each slot. Two cases need no rule of their own: keys behind padding lie beyond every
`end`, and slots left from an earlier conversation have a negative position for this one.
"""

import torch

from ..geometry import LayerSpec


__all__ = ["last_visible", "slot_ages", "slot_positions"]


def last_visible(spec: LayerSpec, position_ids: torch.Tensor, end: torch.Tensor | None) -> torch.Tensor:
    """`end` of the rule for every query of a layer: only sliding layers look ahead.

    Args:
        spec: the layer.
        position_ids: int32 [B, S], -1 for padding.
        end: int32 [B, S], last position of the image that a query belongs to, its own position otherwise; or `None`.

    Returns:
        int32 [B, S].
    """
    return position_ids if end is None or spec.window is None else end


def slot_positions(last_positions: torch.Tensor, num_slots: int) -> torch.Tensor:
    """Position that each slot of a ring holds once everything up to `last_positions` has been written.

    Args:
        last_positions: int32 [B], -1 for an unused row.
        num_slots: slots of the ring; where every position has a slot of its own the ring never turns.

    Returns:
        int32 [B, num_slots]: `p - ((p - s) mod num_slots)`, negative for slots that hold nothing of this sequence.
    """
    slots = torch.arange(num_slots, dtype=last_positions.dtype, device=last_positions.device)
    last = last_positions[:, None]  # [B] -> [B, 1]
    return last - torch.remainder(last - slots, num_slots)


def slot_ages(positions: torch.Tensor, num_slots: int) -> torch.Tensor:
    """How far before its query the position in each slot is, [B] -> int32 [B, num_slots]; -1 for an empty slot."""
    held = slot_positions(positions, num_slots)
    return torch.where(held >= 0, positions[:, None] - held, -1)
