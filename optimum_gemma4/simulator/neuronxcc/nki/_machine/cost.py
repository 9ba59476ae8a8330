# SPDX-License-Identifier: Apache-2.0
"""Documented instruction costs, in cycles of the engine that executes them.

Formulas: "Estimated instruction cost" of the SDK 2.26 `nki.isa` stubs (dropped from later ones). N is the number of
elements a partition. Functions of Vector instructions return (cycles, cycles with the bf16 performance modes of
NeuronCore-v3), the latter by SDK 2.29 `trainium2_arch.rst` (Vector Engine Performance Mode).
"""

from . import dtypes
from .hardware import GPSIMD_START, MIN_INTERVAL


_HALF = (dtypes.BFLOAT16, dtypes.FLOAT16)


def free_size(shape) -> int:
    """Elements a partition of a tile."""
    size = 1
    for dim in shape[1:]:
        size *= dim
    return size


def matmul(stationary_shape, moving_shape, dtypes_in, onezero=False) -> int:
    """nc_matmul: max(min(64, M), N) Tensor Engine cycles, four times that in float32 (twice with a 0/1 operand)."""
    cycles = max(min(MIN_INTERVAL, free_size(stationary_shape)), free_size(moving_shape))
    if dtypes.FLOAT32 in dtypes_in:
        return cycles * (2 if onezero else 4)
    return cycles


def pe_transpose(shape, dtype) -> int:
    """nc_transpose on the Tensor Engine: max(P, min(64, F)); float32 passes the array four times as a matmul does."""
    cycles = max(shape[0], min(MIN_INTERVAL, free_size(shape)))
    return cycles * 4 if dtype == dtypes.FLOAT32 else cycles


def at_least(cycles: float) -> float:
    """max(MIN_II, cycles)."""
    return cycles if cycles > MIN_INTERVAL else MIN_INTERVAL


def _halves(*tiles) -> bool:
    return all(t in _HALF for t in tiles)


def _contiguous(tensor) -> bool:
    strides = tensor.data.strides
    return tensor.fancy is None and (tensor.shape[-1] == 1 or strides[-1] == tensor.data.itemsize)


def tensor_copy(source, dtype, target_memory="sbuf") -> tuple[float, float]:
    """tensor_copy: max(64, N); 16-bit to 16-bit is 4x faster within SBUF and 2x with one side in PSUM on v3."""
    n = free_size(source.shape)
    return at_least(n), at_least(n / _mode(source, dtype, target_memory))


def tensor_scalar(source, dtype, target_memory="sbuf") -> tuple[float, float]:
    """tensor_scalar: as tensor_copy."""
    return tensor_copy(source, dtype, target_memory)


def _mode(source, dtype, target_memory) -> int:
    if not _halves(source.dtype, dtype):
        return 1
    contiguous, in_psum = _contiguous(source), "psum" in (source.buffer.memory, target_memory)
    if contiguous:
        return 2 if in_psum else 4
    return 1 if in_psum else 2


def tensor_tensor(first, second, operator: str, dtype) -> tuple[float, float]:
    """tensor_tensor: N with one operand in PSUM or all-bfloat16 add / subtract / multiply in SBUF, else 2N."""
    n = free_size(first.shape)
    psum = "psum" in (first.buffer.memory, second.buffer.memory)
    quick = (
        {first.dtype, second.dtype, dtype} == {dtypes.BFLOAT16}
        and operator in ("add", "subtract", "multiply")
        and _contiguous(first)
        and _contiguous(second)
    )
    cycles = at_least(n if psum or quick else 2 * n)
    fast = _halves(first.dtype, second.dtype, dtype) and not psum
    return cycles, at_least(n) if fast else cycles


def scalar_tensor_tensor(data, other, first_op: str, second_op: str) -> float:
    """scalar_tensor_tensor: 2N; N for bfloat16 subtract then multiply with even N."""
    n = free_size(data.shape)
    quick = {data.dtype, other.dtype} == {dtypes.BFLOAT16} and (first_op, second_op) == ("subtract", "multiply")
    return at_least(n if quick and n % 2 == 0 else 2 * n)


def tensor_reduce(source, operator: str, dtype) -> float:
    """tensor_reduce: N; N/2 from bfloat16 to bfloat16 for add and max."""
    n = free_size(source.shape)
    quick = source.dtype == dtype == dtypes.BFLOAT16 and operator in ("add", "maximum")
    return n / 2 if quick else n


def memset(shape, dtype, value) -> tuple[float, float]:
    """memset: max(64, N); max(64, N/2) for a 16-bit zero."""
    n = free_size(shape)
    cycles = at_least(n / 2 if value == 0 and dtype in _HALF else n)
    return cycles, cycles


def activation(shape, reduces: bool = False) -> float:
    """activation: max(64, N) Scalar Engine cycles, and 64 more to read the accumulators out."""
    return at_least(free_size(shape)) + (MIN_INTERVAL if reduces else 0)


def gpsimd(shape) -> float:
    """affine_select, iota: 150 + N GpSimd cycles."""
    return GPSIMD_START + free_size(shape)
