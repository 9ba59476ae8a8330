# SPDX-License-Identifier: Apache-2.0
"""The NKI instructions that the kernels use, destination first: the only file that depends on which NKI is installed.

Written for `neuronxcc.nki` of SDK 2.26-2.29, where an instruction returns its result. The newer `nki` package (SDK
2.27 on) takes the destination as the first argument, knows no `mask=`, no `mode="trace"` and no `nl.load` / `nl.store`
in some releases: a port replaces the bodies below, and `x[...] += nisa.nc_matmul(a, b)` in the kernels by
`nisa.nc_matmul(x, a, b)`, which accumulates there.
"""

import numpy as np
from neuronxcc import nki
from neuronxcc.nki import isa as nisa
from neuronxcc.nki import language as nl


jit = nki.jit
subkernel = nki.jit(mode="trace")

# Softmax weights: three more bits of mantissa than bf16 at the same PE rate. The operands of a matmul may differ in
# type unless one is fp32 (SDK 2.27-2.29 `nki.isa.nc_matmul`, of NeuronCore-v2 too; the page of 2.26 does not say so).
# With bf16 here the kernels are as exact as torch's fused attention in bf16.
WEIGHTS = nl.float16
BYTES = 2  # of an element of Q, K, V
VECTOR, SCALAR, GPSIMD, TENSOR = nisa.engine.vector, nisa.engine.scalar, nisa.engine.gpsimd, nisa.engine.tensor


def has_range_select() -> bool:
    """Whether the target can mask and find the peak in one Vector pass (NeuronCore-v3: trn2 and later)."""
    return nisa.get_nc_version() >= nisa.nc_version.gen3


def programs() -> tuple:
    """Number of kernel instances of the launch grid (physical cores), and the index of this one."""
    if nl.program_ndim() == 0 or nl.num_programs(axes=0) == 1:
        return 1, 0
    return nl.num_programs(axes=0), nl.program_id(axis=0)


def core_grid(cores: int) -> tuple:
    """Launch grid that puts one kernel instance on each physical core of a logical NeuronCore."""
    return (nl.nc(cores),)


@subkernel
def load(dst, src):
    """HBM to SBUF; converts when the dtypes differ."""
    dst[...] = nl.load(src, dtype=dst.dtype)


@subkernel
def store(dst, src):
    """SBUF to HBM."""
    nl.store(dst, value=src)


@subkernel
def copy(dst, src, engine):
    """On-chip copy with conversion; `engine` is VECTOR or SCALAR where PSUM is involved."""
    dst[...] = nisa.tensor_copy(src, dtype=dst.dtype, engine=engine)


@subkernel
def transpose(dst, src):
    """dst[f, p] = src[p, f] by the PE, SBUF to PSUM, up to 128 x 128."""
    dst[...] = nisa.nc_transpose(src, engine=TENSOR)


@subkernel
def transpose_small(dst, src):
    """dst[f, p] = src[p, f] by Vector, up to 32 x 32; exact for every dtype, and both sides may be SBUF."""
    dst[...] = nisa.nc_transpose(src, engine=VECTOR)


@subkernel
def identity(dst):
    """The identity matrix, which is a constant in HBM."""
    dst[...] = nl.load(nl.shared_identity_matrix(dst.shape[0], dtype=dst.dtype))


@subkernel
def positions(dst, expression):
    """Write an affine expression of arange indices (integers, exact in fp32 up to 2**24)."""
    dst[...] = nisa.iota(expression, dtype=dst.dtype)


@subkernel
def with_scalars(dst, src, op0, operand0, op1=None, operand1=None):
    """dst = (src op0 operand0) op1 operand1; operands are constants or one value a partition. Vector."""
    dst[...] = nisa.tensor_scalar(
        src, op0=op0, operand0=operand0, op1=op1, operand1=operand1, dtype=dst.dtype, engine=VECTOR
    )


@subkernel
def elementwise(dst, first, second, op, engine=VECTOR):
    """dst = first op second, not both in PSUM. Vector, or GpSimd: sums and products within SBUF."""
    dst[...] = nisa.tensor_tensor(first, second, op=op, dtype=dst.dtype, engine=engine)


@subkernel
def fill(dst, value):
    """Set every element to a constant. Vector."""
    dst[...] = nisa.memset(dst.shape, value, dtype=dst.dtype, engine=VECTOR)


@subkernel
def scale_add(dst, src, factor, addend):
    """dst = src * factor + addend, factor one value a partition. Vector, two passes."""
    dst[...] = nisa.scalar_tensor_tensor(
        data=src, op0=nl.multiply, operand0=factor, op1=nl.add, operand1=addend, dtype=dst.dtype
    )


@subkernel
def reduce_free(dst, src, op, axis, negate=False):
    """Reduce the last free axes of src. Vector."""
    dst[...] = nisa.tensor_reduce(op, src, axis=axis, dtype=dst.dtype, negate=negate)


@subkernel
def copy_with_peak(dst, src, peak):
    """dst = src and peak = max of each partition, in one Vector pass."""
    dst[...] = nisa.tensor_scalar_reduce(
        data=src, op0=nl.multiply, operand0=1.0, reduce_op=nl.max, reduce_res=peak, dtype=dst.dtype
    )


@subkernel
def select_with_peak(dst, src, peak, upper, lower, start):
    """As `copy_with_peak`, keeping only columns c with lower < start + c <= upper; the rest is the fp32 minimum."""
    dst[...] = nisa.range_select(
        on_true_tile=src,
        comp_op0=np.less_equal,
        bound0=upper,
        comp_op1=np.greater,
        bound1=lower,
        range_start=start,
        reduce_cmd=nisa.reduce_cmd.reset_reduce,
        reduce_res=peak,
        reduce_op=np.max,
        on_false_value=nl.fp32.min,
        dtype=dst.dtype,
    )


@subkernel
def exponential(dst, src, bias, scale):
    """dst = exp(src * scale + bias), bias one value a partition. Scalar."""
    dst[...] = nisa.activation(nl.exp, src, bias=bias, scale=scale, dtype=dst.dtype)


@subkernel
def exponential_with_sum(dst, src, bias, scale, total):
    """As `exponential`, and total = sum of each partition before rounding, in the same pass."""
    dst[...] = nisa.activation_reduce(
        nl.exp, src, bias=bias, scale=scale, reduce_op=nl.add, reduce_res=total, dtype=dst.dtype
    )


@subkernel
def multiply(dst, src, factor):
    """dst = src * factor, a constant or one fp32 value a partition. Scalar, which has time where Vector has not."""
    dst[...] = nisa.activation(nl.copy, src, scale=factor, dtype=dst.dtype)


@subkernel
def reciprocal(dst, src):
    """dst = 1 / src. Vector."""
    dst[...] = nisa.reciprocal(src, dtype=dst.dtype)
