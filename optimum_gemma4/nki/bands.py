# SPDX-License-Identifier: Apache-2.0
"""Prefill in torch, block by block: which queries, which keys, which of these are seen.

Blocks of queries read only the keys of their band, so that the work of a sliding layer grows with S x window. Static
shapes, no branch on a value: it traces and vmaps. Shared by the kernel's torch twin and the compiler-native form.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from .schedules.blocks import key_range


MIN_BLOCK, MAX_BLOCK = 128, 512


class Band(NamedTuple):
    """A block of queries.

    Attributes:
        queries: slice of the S queries.
        keys: slice of the T keys.
        allowed: bool [B or 1, queries, keys].
    """

    queries: slice
    keys: slice
    allowed: torch.Tensor


def bands(
    queries: int,
    num_keys: int,
    end: torch.Tensor | None,
    window: int,
    offset: int,
    max_lookahead: int,
    device: torch.device,
) -> Iterator[Band]:
    """The bands of a prefill under the one mask rule; arguments as `flash_prefill_torch.flash_prefill`."""
    block = min(MAX_BLOCK, max(MIN_BLOCK, window)) if window else MAX_BLOCK
    for first in range(0, queries, block):
        last = min(first + block, queries) - 1
        low, high = key_range(offset + first, offset + last, window, max_lookahead, num_keys)
        position = torch.arange(offset + first, offset + last + 1, device=device)
        key = torch.arange(low, high, device=device)
        limit = position[None] if end is None else end[:, first : last + 1].to(position.dtype)
        allowed = key <= limit[..., None]  # [B or 1, queries, keys]
        if window:
            allowed = allowed & (key > position[:, None] - window)
        yield Band(slice(first, last + 1), slice(low, high), allowed)
