# SPDX-License-Identifier: Apache-2.0
"""Sections of the decode kernel joined one by one, the sum taken across partitions, the output transposed and stored.

All tiles are small, a few values a partition. Additions and products of the running result are on GpSimd, which has
nothing else to do (and no minimum and subtraction), but for the last section, which nothing hides.
"""

from typing import NamedTuple

import numpy as np

from .. import compat
from ..compat import nisa, nl
from ..schedules.blocks import TILE
from .decode_section import QUADRANT


class Result(NamedTuple):
    """Softmax of some sections, unnormalised; of one section, `total` may have fewer partitions.

    `negative` [128, rows] fp32: negated peak; `total` [128, rows] fp32: sum of each partition's weights; `output`
    [128, H / 128, rows] fp32, in PSUM for one section.
    """

    negative: object
    total: object
    output: object


@compat.subkernel
def start_join(into, section):
    """into = section, the first one."""
    partitions = section.total.shape[0]
    if partitions < TILE:
        compat.fill(into.total, 0.0)
    compat.copy(into.negative, section.negative, compat.GPSIMD)
    compat.copy(into.total[nl.ds(0, partitions), :], section.total, compat.GPSIMD)
    compat.copy(into.output, section.output, compat.VECTOR)


@compat.subkernel
def join_section(into, before, section, no_bias, scale, engine):
    """into = before and section together, both rescaled to the larger peak.

    Args:
        into: Result, written; other tiles than those of `before`.
        before: Result of the sections so far.
        section: Result of the next one.
        no_bias: [128, 1] fp32 zeros.
        scale: Factor of the scores, which peaks are without.
        engine: VECTOR or GPSIMD, for what both can do.
    """
    rows, partitions = before.negative.shape[1], section.total.shape[0]
    held, shape = nl.ds(0, partitions), before.output.shape
    compat.elementwise(into.negative, before.negative, section.negative, np.minimum)
    # exp(old peak - new peak) of what was and of the section
    change = nl.ndarray((TILE, 2, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(change[:, 0, :], into.negative, before.negative, np.subtract)
    compat.elementwise(change[:, 1, :], into.negative, section.negative, np.subtract)
    factors = nl.ndarray((TILE, 2, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.exponential(factors, change, no_bias, scale)
    added = nl.ndarray((partitions, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(added, section.total, factors[held, 1, :], np.multiply, engine)
    kept = nl.ndarray((TILE, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(kept, before.total, factors[:, 0, :], np.multiply, engine)
    if partitions < TILE:
        compat.copy(into.total, kept, engine)
    compat.elementwise(into.total[held, :], kept[held, :], added, np.add, engine)
    earlier = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(earlier, before.output, factors[:, 0:1, :].broadcast_to(shape), np.multiply, engine)
    later = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(later, section.output, factors[:, 1:2, :].broadcast_to(shape), np.multiply)
    compat.elementwise(into.output, earlier, later, np.add, engine)


@compat.subkernel
def sum_partitions(into, total, ones):
    """into[p, 0, g] = the sum over all partitions of total[:, g], at least 1e-30."""
    psum = nl.zeros(total.shape, dtype=nl.float32, buffer=nl.psum)
    psum[...] += nisa.nc_matmul(ones, total)
    compat.with_scalars(into[:, 0, :], psum, np.maximum, 1e-30)


@compat.subkernel
def store_output(out, index, output, total):
    """out[index, :H] = output / total, transposed by the PE; `total` None stores it as it is.

    Args:
        out: HBM tensor of rows of at least H values.
        index: Index of the rows but for the last axis, which is the dims.
        output: [128, H / 128, rows] fp32.
        total: [128, 1, rows] fp32 or None.
    """
    steps, rows = output.shape[1], output.shape[2]
    result = nl.ndarray((TILE, steps, rows), dtype=out.dtype, buffer=nl.sbuf)
    if total is None:
        compat.copy(result, output, compat.VECTOR)
    else:
        inverse = nl.ndarray((TILE, 1, rows), dtype=nl.float32, buffer=nl.sbuf)
        compat.reciprocal(inverse, total)
        compat.elementwise(result, output, inverse.broadcast_to(output.shape), np.multiply)
    psum = nl.ndarray((rows, steps * TILE), dtype=nl.float32, buffer=nl.psum)
    stored = nl.ndarray((rows, steps * TILE), dtype=out.dtype, buffer=nl.sbuf)
    for step in nl.static_range(steps):
        dims = nl.ds(step * TILE, TILE)
        compat.transpose(psum[:, dims], result[:, step, :])
        compat.copy(stored[:, dims], psum[:, dims], compat.SCALAR if step % 2 else compat.VECTOR)
    compat.store(out[(*index, nl.ds(0, steps * TILE))], stored)


@compat.subkernel
def store_stats(out, index, head_dim, negative, total, scale):
    """out[index, H:] = (largest score, sum): what `merge_parts` needs to join the parts of several cores."""
    rows = negative.shape[1]
    pairs = nl.ndarray((rows, 2), dtype=nl.float32, buffer=nl.sbuf)
    turned = nl.ndarray((rows, 2, QUADRANT), dtype=nl.float32, buffer=nl.sbuf)
    compat.transpose_small(turned[:, 0, :], negative[nl.ds(0, QUADRANT), :])
    compat.transpose_small(turned[:, 1, :], total[nl.ds(0, QUADRANT), 0, :])
    compat.with_scalars(pairs[:, 0:1], turned[:, 0, 0:1], np.multiply, -scale)
    compat.copy(pairs[:, 1:2], turned[:, 1, 0:1], compat.VECTOR)
    compat.store(out[(*index, nl.ds(head_dim, 2))], pairs)
