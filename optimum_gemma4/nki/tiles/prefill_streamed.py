# SPDX-License-Identifier: Apache-2.0
"""Prefill of queries that see more keys than fit in SBUF: one pass over the keys for one query head.

The softmax is carried from pass to pass: negated peak, sum and unnormalised output of every tile of every head.
"""

from typing import NamedTuple

from .. import compat
from ..compat import nl
from ..schedules.blocks import TILE, masked_before, visited, widest
from .prefill_tile import negated_peak, score_tile, weigh_values


class Softmax(NamedTuple):
    """The softmax so far of every (head, tile), and the index of a head's first tile."""

    negative: object
    total: object
    output: object
    first: int


@compat.subkernel
def streamed_head(state, queries, keys, values, tiles, lanes, masks, column, bounds, scale):
    """One pass of one head: each tile is scored against the keys in SBUF, then its softmax so far rescaled, added to.

    As where a row is complete, a tile is scored before the one before it is multiplied by V.
    """
    seen = visited(tiles)
    count = len(seen)
    weights = nl.ndarray((TILE, 2, widest(tiles)), dtype=compat.WEIGHTS, buffer=nl.sbuf)
    added = nl.ndarray((TILE, 2, 1), dtype=nl.float32, buffer=nl.sbuf)
    factor = nl.ndarray((TILE, 2, 1), dtype=nl.float32, buffer=nl.sbuf)
    for i in nl.static_range(count + 1):
        t, parity = seen[min(i, count - 1)], i % 2
        tile, rows = tiles[t], nl.ds(0, tiles[t].rows)
        scores = nl.ndarray((tile.rows, tile.width), dtype=nl.float32, buffer=nl.sbuf)
        new = nl.ndarray((tile.rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        if i < count:
            own = 0 if column is None else column + t
            peaks = nl.ndarray((tile.rows, len(tile.banks)), dtype=nl.float32, buffer=nl.sbuf)
            score_tile(
                scores, peaks, queries, tile.row // lanes, keys, 0, tile, masks, masked_before(tiles, t),
                bounds.identity, bounds.upper[:, nl.ds(own, 1)], bounds.lower,
            )  # fmt: skip
            of_pass = nl.ndarray((tile.rows, 1), dtype=nl.float32, buffer=nl.sbuf)
            negated_peak(of_pass, peaks, scale, bounds.cap[rows, nl.ds(own, 1)])
            before = state.negative[rows, state.first + t, :]
            compat.elementwise(new, of_pass, before, nl.minimum)
            compat.exponential(factor[rows, parity, :], before, new, -1.0)
            compat.copy(before, new, compat.VECTOR)
        done = tiles[seen[max(i - 1, 0)]]
        product = nl.zeros((done.rows, values.shape[2]), dtype=nl.float32, buffer=nl.psum)
        last, held = 1 - parity, nl.ds(0, done.rows)
        if i > 0:
            block = done.banks[0].column // TILE
            weigh_values(product, weights[held, last, nl.ds(0, done.width)], values, block, done)
        if i < count:
            compat.exponential_with_sum(
                weights[rows, parity, nl.ds(0, tile.width)], scores, new, scale, added[rows, parity, :]
            )  # fmt: skip
        if i > 0:
            index, by = state.first + seen[i - 1], factor[held, last, :]
            total, output = state.total[held, index, :], state.output[held, index, :]
            compat.with_scalars(total, total, nl.multiply, by, nl.add, added[held, last, :])
            compat.scale_add(output, output, by, product)
