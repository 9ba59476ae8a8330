# SPDX-License-Identifier: Apache-2.0
"""Math of `nki.language`: each function is one instruction, or the few that the compiler makes of it.

Element-wise functions of one tile run on the Scalar Engine; of two tiles on the Vector Engine, where a number or a
[P, 1] tile on one side makes it a tensor_scalar. Unlike the isa calls these promote types: a Python number counts as
its widest type (SDK 2.26 `nki.api.shared.rst`, weakly typed scalars).
"""

import builtins

import numpy as np

from .._machine import cost, dtypes, hardware
from .._machine.errors import NkiError, PartitionMismatchError, ShapeError
from .._memory.checks import operand
from .._memory.execute import produce
from .._memory.index import Index, IndexArray
from .._memory.regions import Region
from .._memory.tensor import PSUM, SBUF, Tensor
from ..isa import movement, on_scalar, on_tensor, on_vector
from ..isa.on_gpsimd import iota
from ..isa.selection import tensor_copy_predicated


def _tile(value):
    return iota(value, np.int32) if isinstance(value, (Index, IndexArray)) else value


def _operand_dtype(value):
    return value.dtype if isinstance(value, Tensor) else dtypes.scalar_dtype(value)


def _elementwise(op, x, y, dtype, mask):
    x, y = _tile(x), _tile(y)
    if not isinstance(x, Tensor) and not isinstance(y, Tensor):
        raise NkiError(f"nl.{op.__name__}: one operand must be a tile, got {x!r} and {y!r}")
    if dtype is None:
        dtype = dtypes.promote(_operand_dtype(x), _operand_dtype(y))
    dtype = dtypes.canonical(dtype)
    if not isinstance(x, Tensor):
        return on_vector.tensor_scalar(y, op, x, reverse0=True, dtype=dtype, mask=mask)
    if not isinstance(y, Tensor):
        return on_vector.tensor_scalar(x, op, y, dtype=dtype, mask=mask)
    x, y = _match_partitions(x, y)
    if x.shape != y.shape:
        if cost.free_size(y.shape) == 1:
            return on_vector.tensor_scalar(x, op, y, dtype=dtype, mask=mask)
        if cost.free_size(x.shape) == 1:
            return on_vector.tensor_scalar(y, op, x, reverse0=True, dtype=dtype, mask=mask)
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = broadcast_to(x, shape=shape), broadcast_to(y, shape=shape)
    return on_vector.tensor_tensor(x, y, op, dtype=dtype, mask=mask)


def _match_partitions(x, y):
    if x.shape[0] == y.shape[0]:
        return x, y
    if y.shape[0] == 1:
        return x, _spread(y, x.shape[0])
    if x.shape[0] == 1:
        return _spread(x, y.shape[0]), y
    raise PartitionMismatchError(f"number of partitions mismatch in parameters ({x!r}, {y!r})")


def _spread(tile, partitions):
    """Broadcast a one-partition tile along partitions: a matmul with a column of ones, then a copy out of PSUM."""
    values = operand(tile, "broadcast_to", "src")
    n, fast = cost.free_size(tile.shape), 512
    steps = -(-n // fast)
    cycles = cost.matmul((1, partitions), (1, builtins.min(n, fast)), (tile.dtype, tile.dtype)) * steps
    result = np.broadcast_to(values, (partitions,) + values.shape[1:])
    produce(hardware.PE, "broadcast", cycles, (tile,), result.reshape(partitions, -1)[:, :fast], dtypes.FLOAT32, PSUM)
    copy_cycles = cost.at_least(n)
    return produce(hardware.VECTOR, "tensor_copy", copy_cycles, (tile,), result.copy(), tile.dtype, SBUF)


def _unary(name: str):
    def function(x, *, dtype=None, mask=None, **kwargs):
        return on_scalar.activation(function, _tile(x), dtype=dtype, mask=mask)

    return _named(function, name, f"{name} of every element, on the Scalar Engine.")


def _binary(name: str, boolean=False):
    def function(x, y, *, dtype=bool if boolean else None, mask=None, **kwargs):
        return _elementwise(function, x, y, dtype, mask)

    return _named(function, name, f"{name} of two tiles, or of a tile and a number, element by element.")


def _reduce(name: str, boolean=False):
    def function(x, axis, *, dtype=None, mask=None, keepdims=False, **kwargs):
        return on_vector.tensor_reduce(
            function, x, axis, mask=mask, dtype=bool if boolean and dtype is None else dtype, keepdims=keepdims
        )

    return _named(function, name, f"{name} along free axes, on the Vector Engine.")


def _named(function, name, doc):
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


_UNARY = (
    "arctan erf erf_dx exp gelu gelu_apprx_sigmoid gelu_apprx_tanh gelu_dx log mish relu rsqrt sigmoid sign silu "
    "silu_dx sin softplus sqrt square tanh abs"
).split()
(
    arctan, erf, erf_dx, exp, gelu, gelu_apprx_sigmoid, gelu_apprx_tanh, gelu_dx, log, mish, relu, rsqrt, sigmoid,
    sign, silu, silu_dx, sin, softplus, sqrt, square, tanh, abs,
) = map(_unary, _UNARY)  # fmt: skip
_BINARY = "add subtract multiply divide maximum minimum power mod fmod bitwise_and bitwise_or bitwise_xor".split()
(
    add, subtract, multiply, divide, maximum, minimum, power, mod, fmod, bitwise_and, bitwise_or, bitwise_xor,
) = map(_binary, _BINARY)  # fmt: skip
left_shift, right_shift = _binary("left_shift"), _binary("right_shift")
_COMPARE = "equal not_equal greater greater_equal less less_equal logical_and logical_or logical_xor".split()
(
    equal, not_equal, greater, greater_equal, less, less_equal, logical_and, logical_or, logical_xor,
) = (_binary(name, boolean=True) for name in _COMPARE)  # fmt: skip
max, min, sum, prod = (_reduce(name) for name in ("max", "min", "sum", "prod"))
all = _reduce("all", boolean=True)


def reciprocal(x, *, dtype=None, mask=None, **kwargs):
    """1 / x on the Vector Engine."""
    return movement.reciprocal(x, dtype=dtype, mask=mask)


def negative(x, *, dtype=None, mask=None, **kwargs):
    """-x on the Vector Engine."""
    return on_vector.tensor_scalar(x, multiply, -1.0, dtype=dtype, mask=mask)


def invert(x, *, dtype=None, mask=None, **kwargs):
    """Bitwise not of an integer tile."""
    return on_vector.tensor_scalar(x, np.invert, 0, dtype=dtype, mask=mask)


def logical_not(x, *, dtype=bool, mask=None, **kwargs):
    """Logical not."""
    return on_vector.tensor_scalar(x, np.logical_not, 0, dtype=dtype, mask=mask)


def mean(x, axis, *, dtype=None, mask=None, keepdims=False, **kwargs):
    """Arithmetic mean along free axes."""
    axes = (axis,) if isinstance(axis, int) else axis
    count = int(np.prod([x.shape[a] for a in axes]))
    total = sum(x, axis, dtype=np.float32, mask=mask, keepdims=keepdims)
    return on_vector.tensor_scalar(total, multiply, 1.0 / count, dtype=x.dtype if dtype is None else dtype)


def softmax(x, axis, *, dtype=None, compute_dtype=None, mask=None, **kwargs):
    """Softmax along the free axes: max, exp with running sum, reciprocal, scale."""
    top = on_vector.tensor_reduce(max, x, axis, mask=mask, dtype=np.float32, negate=True, keepdims=True)
    total = movement.memset((x.shape[0], 1), 0, np.float32)
    powers = on_scalar.activation_reduce(
        exp, x, bias=top, reduce_op=add, reduce_res=total, mask=mask, dtype=np.float32
    )
    inverse = movement.reciprocal(total)
    return on_vector.tensor_scalar(powers, multiply, inverse, dtype=x.dtype if dtype is None else dtype, mask=mask)


def where(condition, x, y, *, dtype=None, mask=None, **kwargs):
    """x where the condition tile holds, else y: a copy of y and a predicated copy of x."""
    condition = _tile(condition)
    if dtype is None:
        dtype = dtypes.promote(_operand_dtype(x), _operand_dtype(y))
    shape = condition.shape
    if isinstance(y, Tensor):
        result = movement.tensor_copy(broadcast_to(y, shape=shape), dtype=dtype)
    else:
        result = movement.memset(shape, y, dtype)
    if isinstance(x, Tensor):
        x = broadcast_to(x, shape=shape)
        if x.dtype != result.dtype:
            x = movement.tensor_copy(x, dtype=dtype)
    return tensor_copy_predicated(src=x, dst=result, predicate=condition, mask=mask)


def matmul(x, y, *, transpose_x=False, mask=None, **kwargs):
    """x @ y, or x.T @ y with `transpose_x`; otherwise a transpose on the Tensor Engine is inserted.

    Operands in PSUM are copied to SBUF first; `nisa.nc_matmul` refuses them.
    """
    x, y = (movement.tensor_copy(t) if t.buffer.memory == PSUM else t for t in (x, y))
    if not transpose_x:
        x = movement.tensor_copy(on_tensor.nc_transpose(x))
    return on_tensor.nc_matmul(x, y, mask=mask)


def transpose(x, *, dtype=None, mask=None, **kwargs):
    """Swap the partition and the free axis of a 2-D tile."""
    if len(x.shape) != 2:
        raise ShapeError(f"nl.transpose: {x!r} exceeds the max supported number of dimensions of 2")
    return on_tensor.nc_transpose(x, dtype=dtype, mask=mask)


def broadcast_to(src, *, shape, **kwargs):
    """Broadcast a tile; free axes as a view, the partition axis by data movement."""
    shape = tuple(shape)
    if src.shape == shape:
        return src
    if src.shape[0] != shape[0]:
        if src.shape[0] != 1:
            raise PartitionMismatchError(f"cannot broadcast {src!r} to {shape}")
        src = _spread(src, shape[0])
    if src.shape == shape:
        return src
    source = src if len(src.shape) == len(shape) else src.reshape(src.shape + (1,) * (len(shape) - len(src.shape)))
    try:
        data = np.broadcast_to(source.data, shape)
    except ValueError as error:
        raise ShapeError(f"cannot broadcast {src!r} to {shape}") from error
    written = None if source.written is None else np.broadcast_to(source.written, shape)
    region = Region(source.region.box, source.region.axes, source.region.frame)
    return Tensor(source.buffer, data, written, region, source.par_axis)


def expand_dims(data, axis):
    """View with axes of size one after the last one."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if builtins.min(a if a >= 0 else a + data.ndim + 1 for a in axes) < data.ndim:
        raise ShapeError(f"nl.expand_dims: only axes after the last one of {data!r} are supported, got {axes}")
    return data.reshape(data.shape + (1,) * len(axes))
