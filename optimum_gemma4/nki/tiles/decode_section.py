# SPDX-License-Identifier: Apache-2.0
"""One section of the cache in the decode kernel: keys transposed, scores, softmax weights and their product with V.

Sub-kernels that write into tiles of the caller. Keys are on the partitions, so the peak of a head is found across
partitions: by Vector transposes of 32 x 32, which are exact in fp32 and leave the PE to the cache. Every section keeps
its own peak, sum and output; `decode_join` puts them together. The order of a section's slots in a tile is
[partition, block]: slot = partition x blocks + block.
"""

import numpy as np

from .. import compat
from ..compat import nisa, nl
from ..schedules.blocks import TILE
from .prefill_bounds import CAP, FILL
from .prefill_tile import LOG_WEIGHT_SCALE


QUADRANT = 32  # partitions of a Vector transpose
LOAD_BLOCKS = 2  # blocks of one DMA: 2 KiB a partition at head dim 512, so that the PE can start early


@compat.subkernel
def load_blocks(into, cache, sequence, head, start, blocks):
    """into[p, :] = slots start + p x blocks ... of a cache flattened to [B, K, T x dims]: one run a partition."""
    partitions, dims = into.shape[0], into.shape[1] // blocks
    i_p = nl.arange(partitions)[:, None]
    for j in nl.static_range(0, blocks, LOAD_BLOCKS):
        size = min(LOAD_BLOCKS, blocks - j) * dims
        i_f = nl.arange(size)[None, :]
        compat.load(into[:, nl.ds(j * dims, size)], cache[sequence, head, (start + i_p * blocks + j) * dims + i_f])


@compat.subkernel
def load_bias(bias, age, sequence, start, window):
    """bias[p, 0, j] = 0 where the slot is seen (0 <= age, and age < window if there is one), else the fill."""
    partitions, _, blocks = bias.shape
    i_p, i_j = nl.arange(partitions)[:, None], nl.arange(blocks)[None, :]
    loaded = nl.ndarray((partitions, blocks), dtype=age.dtype, buffer=nl.sbuf)
    compat.load(loaded, age[sequence, start + i_p * blocks + i_j])
    compat.with_scalars(bias[:, 0, :], loaded, np.less, 0.0, np.multiply, FILL)
    if window > 0:
        old = nl.ndarray((partitions, blocks), dtype=nl.float32, buffer=nl.sbuf)
        compat.with_scalars(old, loaded, np.greater_equal, float(window), np.multiply, FILL)
        compat.elementwise(bias[:, 0, :], bias[:, 0, :], old, np.add)


@compat.subkernel
def load_queries(queries, q, q_rot, sequence, columns):
    """queries[:, step, n]: the dims of a contraction step of every head of a sequence, transposed from q [B, N, H]."""
    heads = q.shape[1]
    plain = nl.ndarray((heads, q.shape[2]), dtype=q.dtype, buffer=nl.sbuf)
    compat.load(plain, q[sequence])
    for step in nl.static_range(len(columns)):
        dims = columns[step]
        _transpose_to(queries[nl.ds(0, dims.size), step, :], picked(plain, dims))
    if q_rot is not None:
        rotated = nl.ndarray((heads, q_rot.shape[2]), dtype=q.dtype, buffer=nl.sbuf)
        compat.load(rotated, q_rot[sequence])
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
    compat.copy(into, psum, compat.VECTOR)


@compat.subkernel
def score_section(scores, queries, head, keys, values, columns, rotated, bias):
    """scores[p, g, j] = q . k of every slot of a section, plus its bias.

    Args:
        scores: [partitions, G, blocks] fp32 SBUF, written.
        queries: [128, steps, N] from `load_queries`.
        head: First of the G query heads.
        keys: [partitions, blocks x H or R] K, or its rotated dims.
        values: [partitions, blocks x H] V; the source of the other dims in the K = V form.
        columns: Contraction steps of K (plain form) or of V (K = V form).
        rotated: R in the K = V form, else 0.
        bias: [partitions, 1, blocks] from `load_bias`.
    """
    partitions, group, blocks = scores.shape
    source = values if rotated > 0 else keys
    dims = source.shape[1] // blocks
    steps = len(columns) + (1 if rotated > 0 else 0)
    whole = all_full(columns, rotated)
    psum = nl.zeros((partitions, group, blocks), dtype=nl.float32, buffer=nl.psum)
    for j in nl.static_range(blocks):
        # The four steps of a block share a PSUM bank and leave it in one copy.
        bank = nl.ndarray((TILE, steps, partitions), dtype=nl.float32, buffer=nl.psum)
        turned = nl.ndarray((TILE, steps, partitions), dtype=keys.dtype, buffer=nl.sbuf)
        engine = compat.SCALAR if j % 3 else compat.VECTOR
        for step in nl.static_range(steps):
            if step < len(columns):
                size = columns[step].size
                compat.transpose(bank[nl.ds(0, size), step, :], picked(source, columns[step], j * dims))
            else:
                size = rotated
                compat.transpose(bank[nl.ds(0, size), step, :], keys[:, nl.ds(j * rotated, rotated)])
            if not whole:
                compat.copy(turned[nl.ds(0, size), step, :], bank[nl.ds(0, size), step, :], engine)
        if whole:
            compat.copy(turned, bank, engine)
        for step in nl.static_range(steps):
            size = columns[step].size if step < len(columns) else rotated
            psum[:, :, j] += nisa.nc_matmul(
                turned[nl.ds(0, size), step, :], queries[nl.ds(0, size), step, nl.ds(head, group)]
            )
    compat.elementwise(scores, psum, bias.broadcast_to((partitions, group, blocks)), np.add)


def all_full(columns, rotated: int) -> bool:
    """Whether every contraction step has 128 dims."""
    return all(dims.size == TILE for dims in columns) and rotated in (0, TILE)


@compat.subkernel
def weigh_section(weights, negative, sums, scores, scale):
    """Softmax weights of a section, relative to its own peak.

    Args:
        weights: [partitions, blocks, G] fp16, written.
        negative: [128, G] fp32, written in all partitions: log(WEIGHT_SCALE) - scale x peak, at most CAP.
        sums: [partitions, G] fp32, written: sum of the weights of a partition, before rounding.
        scores: [partitions, G, blocks] fp32.
        scale: Factor of the scores.
    """
    partitions, group, blocks = scores.shape
    peaks = nl.ndarray((partitions, group), dtype=nl.float32, buffer=nl.sbuf)
    compat.reduce_free(peaks, scores, np.max, axis=(2,))
    across = nl.ndarray((group, partitions), dtype=nl.float32, buffer=nl.sbuf)
    for first in nl.static_range(0, partitions, QUADRANT):
        size = min(QUADRANT, partitions - first)
        compat.transpose_small(across[:, nl.ds(first, size)], peaks[nl.ds(first, size), :])
    peak = nl.ndarray((group, 1), dtype=nl.float32, buffer=nl.sbuf)
    compat.reduce_free(peak, across, np.max, axis=(1,), negate=True)
    if scale != 1.0:
        compat.with_scalars(peak, peak, np.multiply, scale)
    compat.with_scalars(peak, peak, np.add, LOG_WEIGHT_SCALE, np.minimum, CAP)
    # Back to all partitions: a row of 32 equal values, transposed into each quadrant.
    row = nl.ndarray((group, QUADRANT), dtype=nl.float32, buffer=nl.sbuf)
    compat.with_scalars(row, across[:, 0:1].broadcast_to((group, QUADRANT)), np.multiply, 0.0, np.add, peak)
    for first in nl.static_range(0, TILE, QUADRANT):
        compat.transpose_small(negative[nl.ds(first, QUADRANT), :], row)
    for g in nl.static_range(group):
        compat.exponential_with_sum(
            weights[:, :, g], scores[:, g, :], negative[nl.ds(0, partitions), nl.ds(g, 1)], scale, sums[:, nl.ds(g, 1)]
        )


@compat.subkernel
def multiply_section(output, weights, values):
    """output[d, step, g] = sum over the slots of a section of V[slot, step x 128 + d] x weight; fp32 SBUF."""
    partitions, blocks, group = weights.shape
    steps, dims = output.shape[1], values.shape[1] // blocks
    psum = nl.zeros((TILE, steps, group), dtype=nl.float32, buffer=nl.psum)
    for step in nl.static_range(steps):
        for j in nl.affine_range(blocks):
            psum[:, step, :] += nisa.nc_matmul(values[:, nl.ds(j * dims + step * TILE, TILE)], weights[:, j, :])
    compat.copy(output, psum, compat.VECTOR)
