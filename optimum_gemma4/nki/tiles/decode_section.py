# SPDX-License-Identifier: Apache-2.0
"""One section of the cache in the decode kernel: keys transposed, scores, softmax weights and their product with V.

Sub-kernels that write into tiles of the caller. Keys are on the partitions, so the peak of a head is found across
partitions: by Vector transposes of 32 x 32, which are exact in fp32 and leave the PE to the cache. Every section has
its own peak, sum and output; `decode_join` puts them together. Rows are the query heads of the section's key heads, a
column is one slot of every partition (`decode_cuts`).
"""

from .. import compat
from ..compat import nisa, nl
from ..schedules.blocks import TILE
from .prefill_bounds import CAP, FILL


QUADRANT = 32  # partitions of a Vector transpose
AHEAD = 3  # blocks
ROW_BYTES = 2048  # of one DMA, a partition: from where DMA is efficient, and little enough for the PE to start early


@compat.subkernel
def load_columns(into, cache, sequence, head, origin, columns, first, dims):
    """into[p, :] = columns `first` ... of partition p, out of a cache flattened to [B, K, T x dims].

    Args:
        into: [partitions, blocks x dims], written.
        cache: [B, K, T x dims] in HBM.
        sequence: Index of the sequence.
        head: Index of the key head.
        origin: Slot in column 0 of partition 0.
        columns: Columns of the cache, the consecutive slots of a partition.
        first: First column to load.
        dims: Values of a slot.
    """
    partitions, size = into.shape
    piece = max(1, ROW_BYTES // (dims * compat.BYTES)) * dims
    i_p = nl.arange(partitions)[:, None]
    for start in nl.static_range(0, size, piece):
        width = min(piece, size - start)
        i_f = nl.arange(width)[None, :]
        place = (origin + i_p * columns + first) * dims + start + i_f
        compat.load(into[:, nl.ds(start, width)], cache[sequence, head, place])


@compat.subkernel
def load_bias(bias, age, sequence, origin, window):
    """bias[p, 0, j] = 0 where a slot is seen (0 <= age, and age < window if there is one), else the fill."""
    partitions, _, columns = bias.shape
    i_p, i_j = nl.arange(partitions)[:, None], nl.arange(columns)[None, :]
    loaded = nl.ndarray((partitions, columns), dtype=age.dtype, buffer=nl.sbuf)
    compat.load(loaded, age[sequence, origin + i_p * columns + i_j])
    if window > 0:
        empty = nl.ndarray((partitions, columns), dtype=nl.float32, buffer=nl.sbuf)
        old = nl.ndarray((partitions, columns), dtype=nl.float32, buffer=nl.sbuf)
        compat.with_scalars(empty, loaded, nl.less, 0.0, nl.multiply, FILL)
        compat.with_scalars(old, loaded, nl.greater_equal, float(window), nl.multiply, FILL)
        compat.elementwise(bias[:, 0, :], empty, old, nl.add)
    else:
        compat.with_scalars(bias[:, 0, :], loaded, nl.less, 0.0, nl.multiply, FILL)


@compat.subkernel
def load_queries(queries, q, q_rot, sequence, first_head, columns):
    """queries[:, step, n]: the dims of a contraction step of this core's heads, transposed from q [B, N, H]."""
    heads = queries.shape[2]
    plain = nl.ndarray((heads, q.shape[2]), dtype=q.dtype, buffer=nl.sbuf)
    compat.load(plain, q[sequence, nl.ds(first_head, heads), :])
    for step in nl.static_range(len(columns)):
        dims = columns[step]
        _transpose_to(queries[nl.ds(0, dims.size), step, :], picked(plain, dims))
    if q_rot is not None:
        rotated = nl.ndarray((heads, q_rot.shape[2]), dtype=q.dtype, buffer=nl.sbuf)
        compat.load(rotated, q_rot[sequence, nl.ds(first_head, heads), :])
        _transpose_to(queries[nl.ds(0, q_rot.shape[2]), len(columns), :], rotated)


def picked(tile, dims, first=0):
    """The head dims of one contraction step out of rows that start at column `first`: one run, or several."""
    if dims.count == 1:
        return tile[:, nl.ds(first + dims.start, dims.width)]
    i_p, i_c = nl.arange(tile.shape[0])[:, None, None], nl.arange(dims.count)[None, :, None]
    i_w = nl.arange(dims.width)[None, None, :]
    return tile[i_p, first + dims.start + i_c * dims.stride + i_w]


@compat.subkernel
def _transpose_to(into, source):
    psum = nl.ndarray(into.shape, dtype=nl.float32, buffer=nl.psum)
    compat.transpose(psum, source)
    compat.copy(into, psum, compat.SCALAR)


@compat.subkernel
def score_blocks(scores, queries, keys, values, columns, rotated):
    """scores[p, g, j] = q . k for one key head of a section.

    Args:
        scores: [partitions, G, blocks] fp32 PSUM, accumulated.
        queries: [128, steps, G] from `load_queries`.
        keys: [partitions, blocks x H or R] K, or its rotated dims.
        values: [partitions, blocks x H] V; the source of the other dims in the K = V form.
        columns: Contraction steps of K (plain form) or of V (K = V form).
        rotated: R in the K = V form, else 0.
    """
    partitions, _, blocks = scores.shape
    source = values if rotated > 0 else keys
    dims = source.shape[1] // blocks
    steps = len(columns) + (1 if rotated > 0 else 0)
    whole = all_full(columns, rotated)
    # Block j is transposed before block j - AHEAD is multiplied: the PE does not wait for the copies in between.
    turned = nl.ndarray((TILE, blocks, steps, partitions), dtype=keys.dtype, buffer=nl.sbuf)
    for j in nl.static_range(blocks + AHEAD):
        if j < blocks:
            # The steps of a block share a PSUM bank and leave it in one copy.
            bank = nl.ndarray((TILE, steps, partitions), dtype=nl.float32, buffer=nl.psum)
            engine = compat.VECTOR if j % 3 == 1 else compat.SCALAR
            for step in nl.static_range(steps):
                if step < len(columns):
                    size = columns[step].size
                    compat.transpose(bank[nl.ds(0, size), step, :], picked(source, columns[step], j * dims))
                else:
                    size = rotated
                    compat.transpose(bank[nl.ds(0, size), step, :], keys[:, nl.ds(j * rotated, rotated)])
                if not whole:
                    compat.copy(turned[nl.ds(0, size), j, step, :], bank[nl.ds(0, size), step, :], engine)
            if whole:
                compat.copy(turned[:, j], bank, engine)
        if j >= AHEAD:
            done = j - AHEAD
            if whole:
                for step in nl.affine_range(steps):
                    scores[:, :, done] += nisa.nc_matmul(turned[:, done, step, :], queries[:, step, :])
            else:
                for step in nl.static_range(steps):
                    held = nl.ds(0, columns[step].size if step < len(columns) else rotated)
                    scores[:, :, done] += nisa.nc_matmul(turned[held, done, step, :], queries[held, step, :])


def all_full(columns, rotated: int) -> bool:
    """Whether every contraction step has 128 dims."""
    return all(dims.size == TILE for dims in columns) and rotated in (0, TILE)


@compat.subkernel
def weigh_section(weights, negative, sums, scores, bias, scale, log_scale):
    """Softmax weights of a section, relative to its own peak.

    Args:
        weights: [partitions, rows, blocks] fp16, written.
        negative: [128, rows, 1] fp32, written in all partitions: the negated peak (unscaled), at most CAP.
        sums: [partitions, rows] fp32, written: sum of the weights of a partition.
        scores: [partitions, rows, blocks] fp32 PSUM.
        bias: [partitions, 1, blocks] from `load_bias`.
        scale: Factor of the scores.
        log_scale: [128, 1] fp32: log(WEIGHT_SCALE).
    """
    partitions, rows, blocks = scores.shape
    # In PSUM too: Vector adds twice as fast with one operand there.
    masked = nl.ndarray((partitions, rows, blocks), dtype=nl.float32, buffer=nl.psum)
    compat.elementwise(masked, scores, bias.broadcast_to((partitions, rows, blocks)), nl.add)
    peaks = nl.ndarray((partitions, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.reduce_free(peaks, masked, nl.max, axis=(2,))
    across = nl.ndarray((rows, partitions), dtype=nl.float32, buffer=nl.sbuf)
    for first in nl.static_range(0, partitions, QUADRANT):
        size = min(QUADRANT, partitions - first)
        compat.transpose_small(across[:, nl.ds(first, size)], peaks[nl.ds(first, size), :])
    peak = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
    compat.reduce_free(peak, across, nl.max, axis=(1,), negate=True)
    # Back to all partitions: a row of 32 equal values, transposed into each quadrant.
    row = nl.ndarray((rows, QUADRANT), dtype=nl.float32, buffer=nl.sbuf)
    compat.with_scalars(row, peak.broadcast_to((rows, QUADRANT)), nl.minimum, CAP)
    for first in nl.static_range(0, TILE, QUADRANT):
        compat.transpose_small(negative[nl.ds(first, QUADRANT), :, 0], row)
    shifted = nl.ndarray((partitions, rows, blocks), dtype=nl.float32, buffer=nl.sbuf)
    held = negative[nl.ds(0, partitions), :, :]
    compat.elementwise(shifted, masked, held.broadcast_to((partitions, rows, blocks)), nl.add)
    compat.exponential(weights, shifted, log_scale[nl.ds(0, partitions), :], scale)
    compat.reduce_free(sums, weights, nl.add, axis=(2,))


@compat.subkernel
def multiply_values(output, weights, values):
    """output[d, step, g] += sum over a section's slots of V[slot, step x 128 + d] x weight, for one key head.

    Args:
        output: [128, H / 128, G] fp32 PSUM, accumulated.
        weights: [partitions, G, blocks] fp16.
        values: [partitions, blocks x H].
    """
    blocks = weights.shape[2]
    dims = values.shape[1] // blocks
    for step in nl.static_range(output.shape[1]):
        for j in nl.affine_range(blocks):
            output[:, step, :] += nisa.nc_matmul(values[:, nl.ds(j * dims + step * TILE, TILE)], weights[:, :, j])
