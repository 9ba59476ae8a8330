# SPDX-License-Identifier: Apache-2.0
"""One tile of queries in the prefill kernel: scores, softmax weights and their product with V.

Sub-kernels that write into tiles of the caller. Engines: PE makes scores, transposes weights and multiplies by V;
Vector moves scores out of PSUM and finds their peak in the same pass, masked or not; Scalar takes the exponential with
its row sum, and normalises; copies of transposed weights alternate between Vector and Scalar so that neither is busier
than the PE. Layouts: scores [queries, keys], K^T [dims, steps, keys], V [keys, blocks, dims].
"""

import math

from .. import compat
from ..compat import nisa, nl
from ..schedules.blocks import BANK, TILE, WEIGHT_SCALE, masked_blocks
from .prefill_bounds import ORIGIN


LOG_WEIGHT_SCALE = math.log(WEIGHT_SCALE)
AHEAD = 2  # banks


@compat.subkernel
def score_tile(scores, peaks, queries, row, keys, shift, tile, masks, mask_slot, identity, upper, lower):
    """Scores of a tile and the peak of every bank.

    Args:
        scores: [rows, width] fp32 SBUF, written.
        peaks: [rows, banks] fp32 SBUF, written: largest score of each bank, unscaled.
        queries: [128, H / 128, columns] Q^T in SBUF.
        row: Column of the tile's first query.
        keys: [128, H / 128, columns] K^T in SBUF.
        shift: Added to the columns of the plan (loop index of equal chunks).
        tile: The plan of this tile.
        masks: [128, slots, 128] added to the scores by the PE where range_select is missing.
        mask_slot: First slot of this tile.
        identity: [128, 128] times FILL, the PE's way to add a mask; None where range_select is available.
        upper: [128, 1] fp32: last column that each query sees; the tile's first query has column ORIGIN.
        lower: [128, 1] fp32: last column before the window.
    """
    rows, steps = tile.rows, keys.shape[1]
    for b in nl.static_range(len(tile.banks)):
        bank = tile.banks[b]
        at = bank.column - tile.banks[0].column
        psum = nl.zeros((rows, bank.width), dtype=nl.float32, buffer=nl.psum)
        for step in nl.affine_range(steps):
            psum[...] += nisa.nc_matmul(
                queries[:, step, nl.ds(row, rows)], keys[:, step, nl.ds(shift + bank.column, bank.width)]
            )
        if identity is not None:
            slot = mask_slot + masked_blocks(tile.banks[:b])
            for m in nl.static_range(len(bank.masked)):
                start = bank.masked[m]
                size = min(TILE, bank.width - start)
                psum[:, nl.ds(start, size)] += nisa.nc_matmul(
                    identity[:, nl.ds(0, rows)], masks[:, slot + m, nl.ds(0, size)]
                )
        into, peak = scores[:, nl.ds(at, bank.width)], peaks[:, nl.ds(b, 1)]
        if identity is None and len(bank.masked) > 0:
            start = ORIGIN + bank.position
            compat.select_with_peak(into, psum, peak, upper[nl.ds(0, rows), :], lower[nl.ds(0, rows), :], start)
        else:
            compat.copy_with_peak(into, psum, peak)


@compat.subkernel
def negated_peak(negative, peaks, scale, cap):
    """The bias of the exponential: log(WEIGHT_SCALE) - scale x peak, at most `cap`.

    The cap stays above the fill of masked scores, so that a row without keys (in this pass) weighs nothing; where it
    is strongly negative (padding rows) every weight of the row is zero.
    """
    largest = nl.ndarray(negative.shape, dtype=nl.float32, buffer=nl.sbuf)
    compat.reduce_free(largest, peaks, nl.max, axis=(1,), negate=True)
    if scale != 1.0:
        compat.with_scalars(largest, largest, nl.multiply, scale)
    compat.with_scalars(negative, largest, nl.add, LOG_WEIGHT_SCALE, nl.minimum, cap)


@compat.subkernel
def weigh_values(output, weights, values, first_block, tile):
    """output += weights @ V for the blocks of a tile.

    Args:
        output: [rows, H] fp32 PSUM, accumulated.
        weights: [rows, width] fp16 SBUF.
        values: [128, blocks, H] V in SBUF.
        first_block: Block of V that holds the first key of the row.
        tile: The plan of this tile.
    """
    rows, count = tile.rows, len(tile.banks)
    # Bank b is transposed before bank b - AHEAD is multiplied: the PE does not wait for the copies in between.
    transposed = nl.ndarray((TILE, count, BANK // TILE, rows), dtype=weights.dtype, buffer=nl.sbuf)
    for b in nl.static_range(count + AHEAD):
        if b < count:
            bank = tile.banks[b]
            at = bank.column - tile.banks[0].column
            full, rest = bank.width // TILE, bank.width % TILE
            psum = nl.ndarray((TILE, BANK // TILE, rows), dtype=nl.float32, buffer=nl.psum)
            # NeuronCore-v2 also makes its masks on Vector.
            engine = compat.VECTOR if compat.has_range_select() and b % 3 == 1 else compat.SCALAR
            if full > 0:
                for j in nl.affine_range(full):
                    compat.transpose(psum[:, j, :], weights[:, nl.ds(at + j * TILE, TILE)])
                compat.copy(transposed[:, b, nl.ds(0, full), :], psum[:, nl.ds(0, full), :], engine)
            if rest > 0:
                compat.transpose(psum[nl.ds(0, rest), full, :], weights[:, nl.ds(at + full * TILE, rest)])
                compat.copy(transposed[nl.ds(0, rest), b, full, :], psum[nl.ds(0, rest), full, :], engine)
        if b >= AHEAD:
            done = b - AHEAD
            bank = tile.banks[done]
            block = first_block + (bank.column - tile.banks[0].column) // TILE
            full, rest = bank.width // TILE, bank.width % TILE
            if full > 0:
                for j in nl.affine_range(full):
                    output[...] += nisa.nc_matmul(transposed[:, done, j, :], values[:, block + j, :])
            if rest > 0:
                held = nl.ds(0, rest)
                output[...] += nisa.nc_matmul(transposed[held, done, full, :], values[held, block + full, :])
