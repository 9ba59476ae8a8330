# SPDX-License-Identifier: Apache-2.0
"""Sections of the decode kernel joined one by one, the sum taken across partitions, the output transposed and stored.

All tiles are small, a few values a partition. Additions and products of the running result are on GpSimd, which has
nothing else to do (and no minimum and subtraction), but for the last section, which nothing hides.
"""

from typing import NamedTuple

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
    compat.copy(into.output, section.output, compat.SCALAR)


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
    compat.elementwise(into.negative, before.negative, section.negative, nl.minimum)
    # exp(old peak - new peak) of what was and of the section
    change = nl.ndarray((TILE, 2, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(change[:, 0, :], into.negative, before.negative, nl.subtract)
    compat.elementwise(change[:, 1, :], into.negative, section.negative, nl.subtract)
    factors = nl.ndarray((TILE, 2, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.exponential(factors, change, no_bias, scale)
    added = nl.ndarray((partitions, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(added, section.total, factors[held, 1, :], nl.multiply, engine)
    kept = nl.ndarray((TILE, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(kept, before.total, factors[:, 0, :], nl.multiply, engine)
    if partitions < TILE:
        compat.copy(into.total, kept, engine)
    compat.elementwise(into.total[held, :], kept[held, :], added, nl.add, engine)
    earlier = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(earlier, before.output, factors[:, 0:1, :].broadcast_to(shape), nl.multiply, engine)
    later = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(later, section.output, factors[:, 1:2, :].broadcast_to(shape), nl.multiply)
    compat.elementwise(into.output, earlier, later, nl.add, engine)


@compat.subkernel
def normalise(into, result, ones):
    """into [128, H / 128, rows] = output / total, the total summed over the partitions by the PE; ones [128, 128]."""
    rows = result.total.shape[1]
    psum = nl.ndarray((TILE, rows), dtype=nl.float32, buffer=nl.psum)
    psum[...] = nisa.nc_matmul(ones, result.total)
    total = nl.ndarray((TILE, 1, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.with_scalars(total[:, 0, :], psum, nl.maximum, 1e-30)
    inverse = nl.ndarray((TILE, 1, rows), dtype=nl.float32, buffer=nl.sbuf)
    compat.reciprocal(inverse, total)
    compat.elementwise(into, result.output, inverse.broadcast_to(into.shape), nl.multiply)


@compat.subkernel
def store_output(out, index, output):
    """out[index] = output, transposed by the PE.

    Args:
        out: [B, N, H] in HBM.
        index: (sequence, rows).
        output: [128, H / 128, rows] in out's dtype.
    """
    steps, rows = output.shape[1], output.shape[2]
    psum = nl.ndarray((rows, steps * TILE), dtype=nl.float32, buffer=nl.psum)
    stored = nl.ndarray((rows, steps * TILE), dtype=out.dtype, buffer=nl.sbuf)
    for step in nl.static_range(steps):
        dims = nl.ds(step * TILE, TILE)
        compat.transpose(psum[:, dims], output[:, step, :])
        compat.copy(stored[:, dims], psum[:, dims], compat.SCALAR if step % 2 else compat.VECTOR)
    compat.store(out[(*index, nl.ds(0, steps * TILE))], stored)


@compat.subkernel
def store_part(out, index, result, ones, scale):
    """out[index] = output, largest score and sum, in fp32: what `merge_parts` joins the parts of several cores by.

    Args:
        out: [P, B, N, H + 2] in HBM.
        index: (part, sequence, rows).
        result: Of the core's own slots.
        ones: [128, 128] fp32.
        scale: Factor of the scores, which the peak is without.
    """
    steps, rows = result.output.shape[1], result.output.shape[2]
    stored = nl.ndarray((rows, steps * TILE + 2), dtype=nl.float32, buffer=nl.sbuf)
    for step in nl.static_range(steps):
        for first in nl.static_range(0, TILE, QUADRANT):
            quadrant = result.output[nl.ds(first, QUADRANT), step, :]
            compat.transpose_small(stored[:, nl.ds(step * TILE + first, QUADRANT)], quadrant)
    peaks = nl.ndarray((rows, QUADRANT), dtype=nl.float32, buffer=nl.sbuf)
    compat.transpose_small(peaks, result.negative[nl.ds(0, QUADRANT), :])
    compat.multiply(stored[:, nl.ds(steps * TILE, 1)], peaks[:, 0:1], -scale)
    total = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.psum)
    total[...] = nisa.nc_matmul(result.total, ones[:, 0:1])
    compat.copy(stored[:, nl.ds(steps * TILE + 1, 1)], total, compat.SCALAR)
    compat.store(out[(*index, nl.ds(0, steps * TILE + 2))], stored)
