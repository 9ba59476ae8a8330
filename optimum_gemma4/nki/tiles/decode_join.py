# SPDX-License-Identifier: Apache-2.0
"""The end of the decode kernel: sections joined, the sum taken across partitions, the output transposed and stored.

All tiles are small: a few values a partition for each section. Sub-kernels, called once for each sequence and key head.
"""

import numpy as np

from .. import compat
from ..compat import nisa, nl
from ..schedules.blocks import TILE
from .decode_section import QUADRANT
from .prefill_tile import LOG_WEIGHT_SCALE


@compat.subkernel
def join_sections(total, output, peak, negatives, sums, outputs, ones, no_bias):
    """total, output and peak of all sections together.

    Args:
        total: [128, G] fp32, written in all partitions: sum of the weights over all slots.
        output: [128, H / 128, G] fp32, written: unnormalised.
        peak: [128, G, 1] fp32, written: negated largest score.
        negatives: [128, G, sections] fp32: negated peaks, the same in all partitions.
        sums: [128, G, sections] fp32: sums of each partition.
        outputs: [128, H / 128, G, sections] fp32.
        ones: [128, 128] fp32.
        no_bias: [128, 1] fp32 zeros.
    """
    group, count = negatives.shape[1], negatives.shape[2]
    compat.reduce_free(peak[:, :, 0], negatives, np.minimum, axis=(2,))
    # exp(peak of the section - largest peak) = exp(smallest negative - negative)
    factors = nl.ndarray((TILE, 1, group, count), dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(factors[:, 0], peak.broadcast_to((TILE, group, count)), negatives, np.subtract)
    compat.exponential(factors, factors, no_bias, 1.0)
    weighted = nl.ndarray((TILE, group, count), dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(weighted, sums, factors[:, 0], np.multiply)
    partial = nl.ndarray((TILE, group), dtype=nl.float32, buffer=nl.sbuf)
    compat.reduce_free(partial, weighted, np.add, axis=(2,))
    psum = nl.zeros((TILE, group), dtype=nl.float32, buffer=nl.psum)
    psum[...] += nisa.nc_matmul(ones, partial)
    compat.with_scalars(total, psum, np.maximum, 1e-30)
    scaled = nl.ndarray(outputs.shape, dtype=nl.float32, buffer=nl.sbuf)
    compat.elementwise(scaled, outputs, factors.broadcast_to(outputs.shape), np.multiply)
    compat.reduce_free(output, scaled, np.add, axis=(3,))


@compat.subkernel
def store_output(out, index, output, total):
    """out[index, :H] = output / total, transposed by the PE; `total` None stores it as it is.

    Args:
        out: HBM tensor of rows of at least H values.
        index: Index of the G rows but for the last axis, which is the dims.
        output: [128, H / 128, G] fp32.
        total: [128, G] fp32 or None.
    """
    steps, group = output.shape[1], output.shape[2]
    result = nl.ndarray((TILE, steps, group), dtype=out.dtype, buffer=nl.sbuf)
    if total is None:
        compat.copy(result, output, compat.VECTOR)
    else:
        inverse = nl.ndarray((TILE, 1, group), dtype=nl.float32, buffer=nl.sbuf)
        compat.reciprocal(inverse[:, 0], total)
        compat.elementwise(result, output, inverse.broadcast_to(output.shape), np.multiply)
    psum = nl.ndarray((group, steps * TILE), dtype=nl.float32, buffer=nl.psum)
    for step in nl.affine_range(steps):
        compat.transpose(psum[:, nl.ds(step * TILE, TILE)], result[:, step, :])
    rows = nl.ndarray((group, steps * TILE), dtype=out.dtype, buffer=nl.sbuf)
    compat.copy(rows, psum, compat.SCALAR)
    compat.store(out[(*index, nl.ds(0, steps * TILE))], rows)


@compat.subkernel
def store_stats(out, index, head_dim, peak, total):
    """out[index, H:] = (largest score, sum): what `merge_parts` needs to join the parts of several cores."""
    group = peak.shape[1]
    pairs = nl.ndarray((group, 2), dtype=nl.float32, buffer=nl.sbuf)
    turned = nl.ndarray((QUADRANT, 2, QUADRANT), dtype=nl.float32, buffer=nl.sbuf)
    compat.transpose_small(turned[nl.ds(0, group), 0, :], peak[nl.ds(0, QUADRANT), :])
    compat.transpose_small(turned[nl.ds(0, group), 1, :], total[nl.ds(0, QUADRANT), :])
    compat.with_scalars(pairs[:, 0:1], turned[nl.ds(0, group), 0, 0:1], np.multiply, -1.0, np.add, LOG_WEIGHT_SCALE)
    compat.copy(pairs[:, 1:2], turned[nl.ds(0, group), 1, 0:1], compat.VECTOR)
    compat.store(out[(*index, nl.ds(head_dim, 2))], pairs)
