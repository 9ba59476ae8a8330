# SPDX-License-Identifier: Apache-2.0
"""The mask of the prefill kernel: bounds per query, and where range_select is missing, tiles to add to the scores.

Bounds are counted from the first position of the query's tile, which is called ORIGIN, so that they mean the same in
every iteration of a loop over tiles: query p of a tile sees column c iff lower[p] < c <= upper[p]. They come from data
(the run-time end of each query), not from the schedule, so that text, image blocks, padding rows and the interleaved
tiles of two cores are one code path. On NeuronCore-v2 a mask is made once per tile for all heads of the group, and the
PE adds it to the scores.
"""

from typing import NamedTuple

from .. import compat
from ..compat import nl
from ..schedules.blocks import TILE


FILL = -1e30  # added to masked scores: finite in bf16, far below any score
CAP = 1e29  # the bias of exp never exceeds this, so FILL + CAP still gives 0
NO_WINDOW = -1e9
# Keys before the tile have columns below ORIGIN, never below 0, where nothing says that range_select can start.
ORIGIN = 2**20


@compat.subkernel
def query_rows(row, lane):
    """row[p] = ORIGIN + p + 128 x lane: the column of the query in partition p."""
    i_p = nl.arange(TILE)[:, None]
    compat.positions(row, i_p + TILE * lane + ORIGIN)


@compat.subkernel
def mask_columns(columns, row, lane):
    """columns[p, c] = c. An iota without the partition index would fill one partition: it is put in, and taken out."""
    i_p, i_c = nl.arange(TILE)[:, None], nl.arange(TILE)[None, :]
    compat.positions(columns, i_c + i_p + TILE * lane + ORIGIN)
    compat.with_scalars(columns, columns, nl.subtract, row)


@compat.subkernel
def lower_bound(lower, row, window):
    """lower = row - window, or minus infinity without a window."""
    if window > 0:
        compat.with_scalars(lower, row, nl.subtract, float(window))
    else:
        compat.fill(lower, NO_WINDOW)


@compat.subkernel
def load_bounds(upper, cap, end, batch, row, lane, lanes, queries, offset):
    """Bounds of all queries of one sequence.

    Args:
        upper: [128, tiles] fp32, written: the column of end(i).
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
    if full > 0:
        for t in nl.affine_range(full):
            compat.load(loaded[:, nl.ds(t, 1)], end[batch, t * (TILE * lanes) + TILE * lane + i_p])
    if rest > 0:
        compat.load(loaded[nl.ds(0, rest), nl.ds(full, 1)], end[batch, full * TILE * lanes + i_rest])
    first = nl.ndarray((TILE, tiles), dtype=nl.float32, buffer=nl.sbuf)
    i_t = nl.arange(tiles)[None, :]
    # Its own position in every tile, plus end(i) - position: the partition index cancels out.
    compat.positions(first, i_t * (TILE * lanes) + i_p + TILE * lane + offset)
    compat.with_scalars(upper, loaded, nl.add, row)
    compat.elementwise(upper, upper, first, nl.subtract)
    compat.with_scalars(cap, upper, nl.greater_equal, row, nl.multiply, 2 * CAP)
    compat.with_scalars(cap, cap, nl.subtract, CAP)


class Bounds(NamedTuple):
    """What the tiles of one sequence are masked by.

    `upper` and `cap` are [128, tiles] where there is an `end`, else [128, 1]; `identity` (times FILL) and `columns`
    are None where range_select does the masking.
    """

    upper: object
    cap: object
    lower: object
    identity: object
    columns: object
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
def make_masks(masks, slots, bounds, first_column):
    """masks[:, s, :] = 1 (or 2) where the query of a partition does not see the key of a column, else 0.

    Args:
        masks: [128, slots, 128] bf16 SBUF, written; the PE multiplies them by FILL.
        slots: From `mask_slots`.
        bounds: Of the sequence.
        first_column: Column of `bounds.upper` of the chunk's first tile; None if there is one for all.
    """
    for s in nl.static_range(len(slots)):
        slot = slots[s]
        column = 0 if first_column is None else first_column + slot.tile
        start = float(ORIGIN + slot.position)
        if slot.by_upper:
            upper = bounds.upper[:, nl.ds(column, 1)]
            compat.with_scalars(masks[:, s, :], bounds.columns, nl.subtract, upper, nl.greater, -start)
        if slot.by_lower:
            before = nl.ndarray((TILE, TILE), dtype=nl.bfloat16, buffer=nl.sbuf)
            compat.with_scalars(before, bounds.columns, nl.subtract, bounds.lower, nl.less_equal, -start)
            if slot.by_upper:
                compat.elementwise(masks[:, s, :], masks[:, s, :], before, nl.add)
            else:
                compat.copy(masks[:, s, :], before, compat.GPSIMD)
