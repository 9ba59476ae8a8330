# SPDX-License-Identifier: Apache-2.0
"""Element-wise and reducing instructions of the Vector Engine (some also run on Scalar or GpSimd).

All compute in float32 and round once to the output type, which is the input's unless `dtype=` says otherwise. Costs:
`_machine/cost.py`. Where an instruction may run on several engines and none is asked for, the Vector Engine takes it.
"""

import numpy as np

from .._machine import cost, dtypes, hardware, operators
from .._machine.errors import DtypeError, MemorySpaceError, OperatorError, PartitionMismatchError, ShapeError
from .._memory.checks import mask_for, operand, same_partitions
from .._memory.context import current
from .._memory.execute import produce
from .._memory.tensor import PSUM, Tensor
from .constants import engine as engines


_NAMES = {
    engines.unknown: hardware.VECTOR,
    engines.vector: hardware.VECTOR,
    engines.scalar: hardware.SCALAR,
    engines.gpsimd: hardware.GPSIMD,
}


def pick_engine(engine, instruction: str, allowed, tiles) -> str:
    """Engine name of an `engine=` argument; GpSimd is refused tiles in PSUM."""
    if engine not in allowed and engine != engines.unknown:
        raise OperatorError(f"{instruction} cannot run on {engine!r}")
    chosen = _NAMES[engine]
    if chosen == hardware.GPSIMD:
        for tile in tiles:
            if isinstance(tile, Tensor) and tile.buffer.memory == PSUM:
                raise MemorySpaceError(f"{instruction}: GpSimd cannot access PSUM ({tile!r})")
    return chosen


def output_dtype(dtype, default) -> np.dtype:
    """`dtype=` argument or the default."""
    return default if dtype is None else dtypes.canonical(dtype)


def column(value, data, instruction: str, name: str, where=None):
    """Values of a scalar or [P, 1] operand, shaped to broadcast over the free axes of `data`."""
    if not isinstance(value, Tensor):
        if not isinstance(value, (int, float, np.generic)):
            raise DtypeError(f"{instruction}: {name} must be a number or a [P, 1] tile, got {type(value).__name__}")
        return np.float32(value)
    same_partitions(instruction, data=data, **{name: value})
    if cost.free_size(value.shape) != 1:
        raise ShapeError(f"{instruction}: {name} must have one element a partition, got {value!r}")
    values = operand(value, instruction, name)
    return values.reshape((values.shape[0],) + (1,) * (len(data.shape) - 1))


def _tiles(*values):
    return tuple(v for v in values if isinstance(v, Tensor))


def apply(function, bitwise, first, second, reverse, instruction, out_dtype=None):
    """One ALU operator on values, in float32 or on the bits of integers."""
    if reverse:
        first, second = second, first
    if bitwise:
        if any(np.asarray(v).dtype.kind not in "iub" for v in (first, second)):
            raise DtypeError(f"{instruction}: bitwise operators need integer operands")
        return function(first, second)
    first, second = (v if v.dtype == np.float32 else v.astype(np.float32) for v in (first, second))
    result = function(first, second)
    return result if result.dtype == np.float32 else result.astype(np.float32)


def tensor_scalar(
    data,
    op0,
    operand0,
    reverse0=False,
    op1=None,
    operand1=None,
    reverse1=False,
    *,
    dtype=None,
    mask=None,
    engine=engines.unknown,
    **kwargs,
):
    """(data op0 operand0) op1 operand1 with numbers or [P, 1] tiles."""
    name = "tensor_scalar"
    allowed = (engines.vector, engines.scalar, engines.gpsimd)
    chosen = pick_engine(engine, name, allowed, _tiles(data, operand0, operand1))
    where = mask_for(mask, data.shape, name)
    values = operand(data, name, "data", where=where)
    name0, first, bits = operators.binary(op0, name)
    if name0 == "rsqrt" and engine == engines.unknown or name0 == "power":
        chosen = pick_engine(engines.gpsimd, name, allowed, _tiles(data, operand0, operand1))
    if chosen == hardware.GPSIMD and name0 not in ("rsqrt", "power"):
        raise OperatorError(f"tensor_scalar on GpSimd implements rsqrt and power alone, not {name0}")
    name1 = None
    if (op1 is None) != (operand1 is None):
        raise OperatorError("tensor_scalar: op1 and operand1 must be given together")
    if not bits:
        _check_float32(name, operand0=operand0, operand1=operand1)
    scalar0 = column(operand0, data, name, "operand0") if not bits else _bits(operand0, values, data)
    result = apply(first, bits, values, scalar0, reverse0, name)
    if op1 is not None:
        name1, second, bits1 = operators.binary(op1, name)
        if bits1 != bits:
            raise OperatorError(f"tensor_scalar: {name0} and {name1} must be both bitvec or both arithmetic")
        scalar1 = column(operand1, data, name, "operand1") if not bits else _bits(operand1, values, data)
        result = apply(second, bits, result, scalar1, reverse1, name)
    if chosen == hardware.SCALAR:
        if current().generation.version == 2:
            raise OperatorError("tensor_scalar: the Scalar Engine of NeuronCore-v2 has no add and multiply")
        if (name0, name1) not in (("multiply", "add"), ("multiply", None), ("add", None)):
            raise OperatorError(f"tensor_scalar: the Scalar Engine does not implement op0={name0}, op1={name1}")
    out = output_dtype(dtype, data.dtype)
    cycles, fast = cost.tensor_scalar(data, out)
    if chosen != hardware.VECTOR:
        fast = cycles = cost.gpsimd(data.shape) if chosen == hardware.GPSIMD else cost.activation(data.shape)
    return produce(chosen, name, cycles, _tiles(data, operand0, operand1), result, out, where=where, fast_cycles=fast)


def _check_float32(instruction: str, **operands) -> None:
    for name, value in operands.items():
        if isinstance(value, Tensor) and value.dtype != dtypes.FLOAT32:
            raise DtypeError(f"{instruction}: {name} of an arithmetic operator must be float32, got {value!r}")


def _bits(value, values, data):
    if isinstance(value, Tensor):
        return column(value, data, "tensor_scalar", "operand")
    return np.asarray(value).astype(values.dtype)


def tensor_scalar_reduce(
    *, data, op0, operand0, reduce_op, reduce_res, reverse0=False, dtype=None, mask=None, **kwargs
):
    """data op0 operand0, and its reduction along the free axes into `reduce_res`."""
    name = "tensor_scalar_reduce"
    if reverse0:
        raise OperatorError("tensor_scalar_reduce: reverse0 is not supported yet")
    where = mask_for(mask, data.shape, name)
    values = operand(data, name, "data", where=where)
    _, function, bits = operators.binary(op0, name)
    reduce_name, reducer, _ = operators.reduction(reduce_op, name)
    if bits:
        raise OperatorError("tensor_scalar_reduce: bitvec operators are not supported")
    _check_float32(name, operand0=operand0)
    result = apply(function, False, values, column(operand0, data, name, "operand0"), False, name)
    out = output_dtype(dtype, data.dtype)
    reduced = reduce_free(reducer, result, where)
    check_result(reduce_res, data, name)
    cycles = cost.at_least(cost.free_size(data.shape)) + hardware.MIN_INTERVAL
    return produce(
        hardware.VECTOR, name, cycles, _tiles(data, operand0), result, out, where=where, extra=((reduce_res, reduced),)
    )


def reduce_free(ufunc, values, where=None) -> np.ndarray:
    """Reduce all free axes to [P, 1]."""
    flat = values.reshape(values.shape[0], -1)
    if where is None:
        return ufunc.reduce(flat, axis=1, keepdims=True)
    identity = {np.add: 0, np.maximum: -np.inf, np.minimum: np.inf, np.multiply: 1}[ufunc]
    return ufunc.reduce(np.where(where.reshape(flat.shape), flat, np.float32(identity)), axis=1, keepdims=True)


def check_result(tile, data, instruction: str) -> None:
    """Check a `reduce_res` argument: one element for every partition of the data."""
    if not isinstance(tile, Tensor) or tile.shape[0] != data.shape[0] or cost.free_size(tile.shape) != 1:
        raise ShapeError(f"{instruction}: reduce_res must be a [{data.shape[0]}, 1] tile, got {tile!r}")


def tensor_tensor(data1, data2, op, *, dtype=None, mask=None, engine=engines.unknown, **kwargs):
    """data1 op data2, element by element; not both in PSUM."""
    name = "tensor_tensor"
    where = mask_for(mask, data1.shape, name)
    first = operand(data1, name, "data1", where=where)
    second = operand(data2, name, "data2", where=where)
    same_partitions(name, data1=data1, data2=data2)
    if cost.free_size(data1.shape) != cost.free_size(data2.shape):
        raise PartitionMismatchError(f"tensor_tensor: elements a partition differ: {data1!r} and {data2!r}")
    if data1.buffer.memory == PSUM and data2.buffer.memory == PSUM:
        raise MemorySpaceError(f"tensor_tensor: data1 and data2 cannot both be in PSUM ({data1!r}, {data2!r})")
    op_name, function, bits = operators.binary(op, name)
    if second.shape != first.shape:
        second = second.reshape(first.shape)
    out = output_dtype(dtype, dtypes.promote(data1.dtype, data2.dtype))
    integer = all(not dtypes.is_float(t) and t.itemsize == 4 for t in (data1.dtype, data2.dtype))
    chosen = pick_engine(engine, name, (engines.vector, engines.gpsimd), (data1, data2))
    if op_name == "power" or (integer and op_name in ("add", "subtract", "multiply")):
        chosen = pick_engine(engines.gpsimd, name, (engines.gpsimd,), (data1, data2))
        result = function(first, second)
    else:
        if chosen == hardware.GPSIMD and op_name not in ("add", "multiply"):
            raise OperatorError(f"tensor_tensor on GpSimd implements add, multiply and power alone, not {op_name}")
        result = apply(function, bits, first, second, False, name)
    cycles, fast = cost.tensor_tensor(data1, data2, op_name, out)
    if chosen == hardware.GPSIMD:
        fast = cycles = cost.gpsimd(data1.shape)
    return produce(chosen, name, cycles, (data1, data2), result, out, where=where, fast_cycles=fast)


def scalar_tensor_tensor(
    *, data, op0, operand0, op1, operand1, reverse0=False, reverse1=False, dtype=None, mask=None, **kwargs
):
    """(data op0 operand0) op1 operand1 with a number or [P, 1] tile, then a full tile."""
    name = "scalar_tensor_tensor"
    where = mask_for(mask, data.shape, name)
    values = operand(data, name, "data", where=where)
    other = operand(operand1, name, "operand1", where=where)
    same_partitions(name, data=data, operand1=operand1)
    if data.buffer.memory == PSUM and operand1.buffer.memory == PSUM:
        raise MemorySpaceError(f"{name}: data and operand1 cannot both be in PSUM ({data!r}, {operand1!r})")
    if other.size != values.size:
        raise ShapeError(f"{name}: operand1 {operand1!r} must have the shape of data {data!r}")
    name0, first, bits0 = operators.binary(op0, name)
    name1, second, bits1 = operators.binary(op1, name)
    result = apply(first, bits0, values, column(operand0, data, name, "operand0"), reverse0, name)
    result = apply(second, bits1, result, other.reshape(values.shape), reverse1, name)
    out = output_dtype(dtype, data.dtype)
    cycles = cost.scalar_tensor_tensor(data, operand1, name0, name1)
    return produce(hardware.VECTOR, name, cycles, _tiles(data, operand0, operand1), result, out, where=where)


def tensor_reduce(op, data, axis, *, mask=None, dtype=None, negate=False, keepdims=False, **kwargs):
    """Reduce trailing, consecutive free axes."""
    name = "tensor_reduce"
    axes = tuple(sorted((axis,) if isinstance(axis, int) else axis))
    axes = tuple(a + data.ndim if a < 0 else a for a in axes)
    if 0 in axes or axes != tuple(range(data.ndim - len(axes), data.ndim)):
        raise ShapeError(f"tensor_reduce: axes {axes} of {data!r} must be the last contiguous free axes")
    where = mask_for(mask, data.shape, name)
    values = operand(data, name, "data", where=where)
    op_name, ufunc, bits = operators.reduction(op, name)
    if bits and dtypes.is_float(data.dtype):
        raise DtypeError(f"tensor_reduce: {op_name} needs integer data, got {data!r}")
    if not bits and values.dtype != np.float32:
        values = values.astype(np.float32)
    if where is not None:
        values = np.where(where, values, {"maximum": -np.inf, "minimum": np.inf, "multiply": 1}.get(op_name, 0))
        values = values.astype(np.float32)
    result = ufunc.reduce(values, axis=axes if len(axes) > 1 else axes[0], keepdims=keepdims)
    if result.ndim < 2:
        result = result.reshape(-1, 1)
    if negate:
        result = -result
    out = output_dtype(dtype, data.dtype)
    return produce(hardware.VECTOR, name, cost.tensor_reduce(data, op_name, out), (data,), result, out)
