# SPDX-License-Identifier: Apache-2.0
"""Tensor constructors of `nki.language`: ndarray, zeros, ones, full and constants, in any memory.

A tuple entry `par_dim(n)` names the partition axis; axes before it are block axes: separate tiles of the same size
(SDK 2.26 `nki_block_dimension_migration_guide.rst`). shared_hbm exists at the top level of a kernel only, and HBM has
no initial value (`nki.errors.rst`).
"""

import sys

import numpy as np

from .._machine import cost, dtypes, hardware
from .._machine.errors import NkiError, ScopeError, ShapeError
from .._memory.checks import check_bank, check_partitions
from .._memory.context import current
from .._memory.execute import produce, record
from .._memory.index import Index, IndexArray
from .._memory.tensor import ON_CHIP, PSUM, SHARED_HBM, Buffer, Tensor
from .constants import sbuf


class par_dim(int):
    """Marks the partition axis in a shape."""


def _shape(shape, memory):
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(isinstance(size, (Index, IndexArray)) for size in shape):
        raise ShapeError(f"tensor shape {shape} depends on a traced index; shapes are compile-time constants")
    marked = [i for i, size in enumerate(shape) if isinstance(size, par_dim)]
    if len(marked) > 1:
        raise ShapeError(f"shape {shape} marks several partition axes")
    plain = tuple(int(size) for size in shape)
    if not plain or any(size < 1 for size in plain):
        raise ShapeError(f"tensor shape {plain} must have positive sizes")
    par_axis = marked[0] if marked else 0
    if memory in ON_CHIP:
        if len(plain) - par_axis < 2:
            raise ShapeError(
                f"insufficient rank: an on-chip tensor {plain} needs a partition and a free axis, e.g. (n, 1)"
            )
        check_partitions(plain[par_axis], f"tensor of shape {plain}")
    return plain, par_axis


def _caller() -> str:
    frame = sys._getframe(3)
    return f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"


def _allocate(shape, dtype, buffer, name) -> Tensor:
    memory = (buffer or sbuf).memory
    plain, par_axis = _shape(shape, memory)
    program = current()
    if memory == SHARED_HBM and (len(program.scopes) > 1 or program.depth > 1):
        raise ScopeError(
            f"shared_hbm tensor {plain} can only be created in the top level kernel scope, not in a loop, an if block "
            "or a called kernel"
        )
    dtype = dtypes.canonical(dtype)
    if memory == SHARED_HBM:
        return _shared(program, plain, dtype, name)
    if memory == PSUM:
        check_bank(plain, dtype, name, par_axis)
    created = Buffer(plain, dtype, memory, par_axis, name or f"{memory}@{_caller()}")
    return Tensor.whole(created)


def _shared(program, shape, dtype, name) -> Tensor:
    """The tensor that all programs of the launch create at this point."""
    if program.shared_created == len(program.shared):
        program.shared.append(Buffer(shape, dtype, SHARED_HBM, 0, name or f"output{len(program.shared)}"))
    buffer = program.shared[program.shared_created]
    program.shared_created += 1
    if buffer.data.shape != shape or buffer.dtype != dtype:
        raise ShapeError(f"programs of the grid create different shared_hbm tensors: {buffer.data.shape} and {shape}")
    return Tensor.whole(buffer)


def ndarray(shape, dtype, *, buffer=None, name="", **kwargs):
    """A new, unwritten tensor.

    Args:
        shape: Sizes; `par_dim` marks the partition axis of on-chip tensors (the first by default).
        dtype: Element type.
        buffer: Memory; SBUF by default.
        name: Name for reports.
    """
    return _allocate(shape, dtype, buffer, name)


def _filled(shape, value, dtype, buffer, name) -> Tensor:
    tensor = _allocate(shape, dtype, buffer, name)
    memory = tensor.buffer.memory
    if memory not in ON_CHIP:
        raise NkiError(f"creating an HBM tensor {tensor!r} with an initial value is not supported; store into it")
    tensor.assign(dtypes.rounded(np.full(tensor.shape, value, dtypes.storage(tensor.dtype)), tensor.dtype))
    if memory == PSUM and value == 0:
        tensor.buffer.lazy_zero = True
        return tensor
    blocks = int(np.prod(tensor.shape[: tensor.par_axis], dtype=np.int64))
    cycles, fast = cost.memset(tensor.shape[tensor.par_axis :], tensor.dtype, value)
    record(hardware.VECTOR, "memset", cycles * blocks, (), tensor, fast * blocks)
    return tensor


def zeros(shape, dtype, *, buffer=None, name="", **kwargs):
    """A tensor of zeros on chip; in PSUM it costs nothing if a matmul accumulates into it first."""
    return _filled(shape, 0, dtype, buffer, name)


def ones(shape, dtype, *, buffer=None, name="", **kwargs):
    """A tensor of ones on chip."""
    return _filled(shape, 1, dtype, buffer, name)


def full(shape, fill_value, dtype, *, buffer=None, name="", **kwargs):
    """A tensor filled with a number on chip."""
    return _filled(shape, fill_value, dtype, buffer, name)


def _like(a, dtype):
    shape = tuple(par_dim(s) if i == a.par_axis else s for i, s in enumerate(a.shape))
    return shape, a.dtype if dtype is None else dtype


def empty_like(a, dtype=None, *, buffer=None, name="", **kwargs):
    """An unwritten tensor of another one's shape and type."""
    shape, dtype = _like(a, dtype)
    return _allocate(shape, dtype, buffer, name)


def zeros_like(a, dtype=None, *, buffer=None, name="", **kwargs):
    """Zeros of another tensor's shape and type."""
    shape, dtype = _like(a, dtype)
    return _filled(shape, 0, dtype, buffer, name)


def shared_constant(constant, dtype=None, **kwargs):
    """An HBM tensor with compile-time values; load it to use it."""
    values = np.asarray(constant)
    dtype = dtypes.canonical(values.dtype if dtype is None else dtype)
    stored = dtypes.rounded(np.array(values, dtypes.storage(dtype)), dtype)
    buffer = Buffer(stored.shape, dtype, "hbm", 0, "constant", stored)
    buffer.parameter, buffer.mutable, buffer.scope = True, False, 0
    return Tensor.whole(buffer)


def shared_identity_matrix(n, dtype=np.uint8, **kwargs):
    """An HBM identity matrix."""
    return shared_constant(np.eye(n), dtype)


def rand(shape, dtype=np.float32, **kwargs):
    """An SBUF tile of uniform random numbers in [0, 1)."""
    values = np.random.default_rng().random(tuple(shape), dtype=np.float32)
    return produce(hardware.GPSIMD, "rand", cost.gpsimd(values.shape), (), values, dtypes.canonical(dtype))
