# SPDX-License-Identifier: Apache-2.0
"""The mask of the prefill kernel: bounds per query, and where range_select is missing, tiles to add to the scores.

Bounds are counted from the first position of the query's tile, so that they mean the same in every iteration of a loop
over tiles: query p of a tile sees column c iff lower[p] < c <= upper[p]. They come from data (the run-time end of each
query), not from the schedule, so that text, image blocks, padding rows and the interleaved tiles of two cores are one
code path. On NeuronCore-v2 a mask is made once per tile for all heads of the group, and the PE adds it to the scores.
"""

from typing import NamedTuple

import numpy as np

from .. import compat
from ..compat import nl
from ..schedules.blocks import TILE


FILL = -1e30  # added to masked scores: finite in bf16, far below any score
CAP = 1e29  # the bias of exp never exceeds this, so FILL + CAP still gives 0
NO_WINDOW = -1e9


@compat.subkernel
def query_rows(row, lane):
    """row[p] = p + 128 x lane: distance of the query in partition p from the first query of its tile."""
    i_p = nl.arange(TILE)[:, None]
    compat.positions(row, i_p + TILE * lane)


@compat.subkernel
def lower_bound(lower, row, window):
    """lower = row - window, or minus infinity without a window."""
    if window > 0:
        compat.with_scalars(lower, row, np.subtract, float(window))
    else:
        compat.with_scalars(lower, row, np.multiply, 0.0, np.add, NO_WINDOW)


@compat.subkernel
def load_bounds(upper, cap, end, batch, row, lane, lanes, queries, offset):
    """Bounds of all queries of one sequence.

    Args:
        upper: [128, tiles] fp32, written: end(i) minus the first position of i's tile.
        cap: [128, tiles] fp32, written: CAP, or -CAP in a padding row (end before the query itself).
        end: [B, S] integers in HBM.
        batch: Index of the sequence.
        row: [128, 1] fp32 from `query_rows`.
        lane: This core, of `lanes` that share the tiles.
        lanes: Cores that take alternate tiles.
        queries: S.
        offset: Position of the first query.
    """
    tiles = upper.shape[1]
    full, rest = queries // (TILE * lanes), queries % (TILE * lanes)
    i_p = nl.arange(TILE)[:, None]
    i_rest = nl.arange(max(rest, 1))[:, None]
    loaded = nl.full((TILE, tiles), -1, dtype=end.dtype, buffer=nl.sbuf)
    for t in nl.affine_range(full):
        compat.load(loaded[:, nl.ds(t, 1)], end[batch, t * (TILE * lanes) + TILE * lane + i_p])
    if rest > 0:
        compat.load(loaded[nl.ds(0, rest), nl.ds(full, 1)], end[batch, full * TILE * lanes + i_rest])
    first = nl.ndarray((TILE, tiles), dtype=nl.float32, buffer=nl.sbuf)
    i_t = nl.arange(tiles)[None, :]
    compat.positions(first, i_t * (TILE * lanes) + offset + i_p * 0)
    compat.elementwise(upper, loaded, first, np.subtract)
    compat.with_scalars(cap, upper, np.greater_equal, row, np.multiply, 2 * CAP)
    compat.with_scalars(cap, cap, np.subtract, CAP)


class Bounds(NamedTuple):
    """What the tiles of one sequence are masked by.

    `upper` and `cap` are [128, tiles] where there is an `end`, else [128, 1]; `identity` is None where range_select
    does the masking.
    """

    upper: object
    cap: object
    lower: object
    identity: object
    window: int
    has_end: bool


class MaskSlot(NamedTuple):
    """A masked block: its tile, its position from the tile's first query, and which bounds can hide keys of it."""

    tile: int
    position: int
    by_upper: bool
    by_lower: bool


def mask_slots(tiles, window: int) -> tuple[MaskSlot, ...]:
    """The masked blocks of a chunk, in the order in which tiles and banks list them."""
    slots = []
    for t, tile in enumerate(tiles):
        for position in (bank.position + block for bank in tile.banks for block in bank.masked):
            by_lower = window > 0 and position <= tile.rows - 1 - window
            slots.append(MaskSlot(t, position, position + TILE - 1 > 0, by_lower))
    return tuple(slots)


@compat.subkernel
def make_masks(masks, slots, upper, upper_column, lower):
    """masks[:, s, :] = FILL (or twice that) where the query of a partition does not see the key of a column, else 0.

    Args:
        masks: [128, slots, 128] bf16 SBUF, written.
        slots: From `mask_slots`.
        upper: [128, tiles] (or [128, 1] for all tiles) as in `load_bounds`.
        upper_column: Column of the chunk's first tile; None if there is one for all.
        lower: [128, 1].
    """
    i_p, i_c = nl.arange(TILE)[:, None], nl.arange(TILE)[None, :]
    for s in nl.static_range(len(slots)):
        slot = slots[s]
        column = 0 if upper_column is None else upper_column + slot.tile
        key = nl.ndarray((TILE, TILE), dtype=nl.float32, buffer=nl.sbuf)
        compat.positions(key, i_c + slot.position + i_p * 0)
        if slot.by_upper:
            compat.with_scalars(masks[:, s, :], key, np.greater, upper[:, nl.ds(column, 1)], np.multiply, FILL)
        if slot.by_lower:
            before = nl.ndarray((TILE, TILE), dtype=nl.bfloat16, buffer=nl.sbuf)
            compat.with_scalars(before, key, np.less_equal, lower, np.multiply, FILL)
            if slot.by_upper:
                compat.elementwise(masks[:, s, :], masks[:, s, :], before, np.add)
            else:
                compat.copy(masks[:, s, :], before, compat.GPSIMD)
