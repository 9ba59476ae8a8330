# SPDX-License-Identifier: Apache-2.0
"""Vector Engine instructions that select, search or scan: range_select, select_reduce, max8, tensor_tensor_scan.

range_select and select_reduce share the Vector Engine's maximum accumulators (`reduce_cmd`). Rules and costs: SDK 2.26
`nki.isa` stubs; range_select exists from NeuronCore-v3 on.
"""

import numpy as np

from .._machine import cost, dtypes, hardware, operators
from .._machine.errors import DtypeError, MemorySpaceError, OperatorError, ShapeError, TargetError
from .._memory.checks import mask_for, operand, same_partitions
from .._memory.context import current
from .._memory.execute import produce, record
from .._memory.tensor import PSUM, Tensor
from .constants import fp32
from .constants import reduce_cmd as commands
from .on_vector import apply, check_result, column, output_dtype, reduce_free


_COMPARISONS = ("equal", "less", "less_equal", "greater", "greater_equal")


def _accumulate(name, result, where, reduce_op, reduce_res, command, data):
    program = current()
    if operators.name_of(reduce_op, name) != "maximum":
        raise OperatorError(f"{name}: reduce_op must be max, got {reduce_op!r}")
    if command in (commands.reduce, commands.reset_reduce):
        top = reduce_free(np.maximum, result, where)
        if command == commands.reduce:
            if program.vector_registers is None:
                raise OperatorError(f"{name}: reduce_cmd.reduce before the accumulators were reset")
            top = np.maximum(top, program.vector_registers[: top.shape[0]])
        program.vector_registers = top
    if reduce_res is None:
        return ()
    check_result(reduce_res, data, name)
    if program.vector_registers is None or command == commands.idle:
        raise OperatorError(f"{name}: reduce_res needs reduce_cmd reset_reduce or reduce")
    return ((reduce_res, program.vector_registers[: data.shape[0]]),)


def range_select(
    *,
    on_true_tile,
    comp_op0,
    comp_op1,
    bound0,
    bound1,
    reduce_cmd=commands.idle,
    reduce_res=None,
    reduce_op=np.amax,
    range_start=0,
    on_false_value=fp32.min,
    mask=None,
    dtype=None,
    **kwargs,
):
    """Keep elements whose free index lies between two per-partition bounds; running maximum on the side."""
    name = "range_select"
    if current().generation.version < 3:
        raise TargetError(
            "range_select is available on NeuronCore-v3 and beyond only; use affine_select or a mask tile"
        )
    if np.float32(on_false_value) != np.float32(fp32.min):
        raise OperatorError(f"range_select: on_false_value must be nl.fp32.min, got {on_false_value}")
    if not dtypes.is_float(on_true_tile.dtype):
        raise DtypeError(f"range_select: on_true_tile must be a float tile, got {on_true_tile!r}")
    for bound_name, bound in (("bound0", bound0), ("bound1", bound1)):
        if not isinstance(bound, Tensor) or bound.dtype != dtypes.FLOAT32:
            raise DtypeError(f"range_select: {bound_name} must be a float32 [P, 1] tile, got {bound!r}")
    where = mask_for(mask, on_true_tile.shape, name)
    values = operand(on_true_tile, name, "on_true_tile", where=where)
    start = getattr(range_start, "value", range_start)
    n = cost.free_size(on_true_tile.shape)
    if start < 0:
        raise OperatorError(f"range_select: range_start {start} is negative; add a constant to it and to both bounds")
    if start + n > 2**24:
        raise OperatorError(f"range_select: range_start {start} + {n} exceeds 2**24, the exact range of float32")
    positions = (start + np.arange(n, dtype=np.float32)).reshape((1,) + values.shape[1:])
    keep = None
    for op, bound in ((comp_op0, bound0), (comp_op1, bound1)):
        op_name, function, _ = operators.binary(op, name)
        if op_name not in _COMPARISONS:
            raise OperatorError(f"range_select: comparison must be one of {_COMPARISONS}, got {op_name}")
        held = function(positions, column(bound, on_true_tile, name, "bound"))
        keep = held if keep is None else keep & held
    result = np.where(keep, values, np.float32(fp32.min))
    extra = _accumulate(name, result, where, reduce_op, reduce_res, reduce_cmd, on_true_tile)
    out = output_dtype(dtype, on_true_tile.dtype)
    reads = (on_true_tile, bound0, bound1)
    return produce(hardware.VECTOR, name, cost.at_least(n), reads, result, out, where=where, extra=extra)


def select_reduce(
    *,
    dst,
    predicate,
    on_true,
    on_false,
    reduce_res=None,
    reduce_cmd=commands.idle,
    reduce_op=np.amax,
    reverse_pred=False,
    mask=None,
    dtype=None,
    **kwargs,
):
    """dst = predicate ? on_true : on_false, with a running maximum on the side."""
    name = "select_reduce"
    where = mask_for(mask, dst.shape, name)
    values = operand(on_true, name, "on_true", where=where)
    chosen = operand(predicate, name, "predicate", where=where)
    same_partitions(name, dst=dst, predicate=predicate, on_true=on_true)
    if on_true.shape != dst.shape or predicate.shape != dst.shape:
        raise ShapeError(
            f"select_reduce: dst {dst!r}, predicate {predicate!r} and on_true {on_true!r} differ in shape"
        )
    if predicate.dtype not in tuple(np.dtype(t) for t in (np.int8, np.uint8, np.int16, np.uint16, np.bool_)):
        raise DtypeError(f"select_reduce: predicate must be an 8- or 16-bit integer tile, got {predicate!r}")
    if on_true.buffer.memory == PSUM and predicate.buffer.memory == PSUM:
        raise MemorySpaceError("select_reduce: on_true and predicate cannot both be in PSUM")
    keep = (chosen == 0) if reverse_pred else (chosen != 0)
    result = np.where(keep, values, column(on_false, on_true, name, "on_false")).astype(np.float32)
    extra = _accumulate(name, result, where, reduce_op, reduce_res, reduce_cmd, on_true)
    reads = [on_true, predicate] + ([on_false] if isinstance(on_false, Tensor) else [])
    _write(hardware.VECTOR, name, cost.at_least(cost.free_size(dst.shape)), reads, dst, result, where, extra)
    return dst


def _write(engine, name, cycles, reads, dst, values, where=None, extra=()) -> None:
    for tile, tile_values in extra:
        tile.assign(dtypes.rounded(tile_values, tile.dtype).reshape(tile.shape))
    record(engine, name, cycles, reads, dst, extra=[tile for tile, _ in extra])
    dst.assign(dtypes.rounded(values, dst.dtype), where)


def tensor_copy_predicated(*, src, dst, predicate, reverse_pred=False, mask=None, dtype=None, **kwargs):
    """Copy src (a tile or a number) to dst where the predicate holds."""
    name = "tensor_copy_predicated"
    flags = operand(predicate, name, "predicate")
    if predicate.dtype not in tuple(np.dtype(t) for t in (np.uint8, np.uint16, np.uint32, np.bool_)):
        raise DtypeError(f"tensor_copy_predicated: predicate must be uint8, uint16 or uint32, got {predicate!r}")
    keep = (flags == 0) if reverse_pred else (flags != 0)
    where = mask_for(mask, dst.shape, name)
    keep = keep if where is None else keep & where
    reads, psum = [predicate], predicate.buffer.memory == PSUM
    values = src
    if isinstance(src, Tensor):
        values = operand(src, name, "src")
        same_partitions(name, src=src, dst=dst, predicate=predicate)
        if src.dtype != dst.dtype:
            raise DtypeError(f"tensor_copy_predicated: src {src!r} and dst {dst!r} must have one data type")
        if src.buffer.memory == PSUM and psum:
            raise MemorySpaceError("tensor_copy_predicated: src and predicate cannot both be in PSUM")
        reads.append(src)
        psum = psum or src.buffer.memory == PSUM
    n = cost.free_size(dst.shape)
    values = np.broadcast_to(np.asarray(values, dtype=dtypes.storage(dst.dtype)), dst.shape)
    # dst is also an input: positions that are not selected keep their value.
    _write(hardware.VECTOR, name, cost.at_least(n if psum else 2 * n), reads, dst, values, keep)
    return dst


def max8(*, src, mask=None, dtype=None, **kwargs):
    """The eight largest elements of each partition, in descending order."""
    n = cost.free_size(src.shape)
    if not 8 <= n <= 16384:
        raise ShapeError(f"max8: elements a partition must be between 8 and 16384, got {src!r}")
    where = mask_for(mask, src.shape, "max8")
    values = operand(src, "max8", "src", where=where)
    if where is not None:
        values = np.where(where, values, -np.inf).astype(np.float32)
    top = -np.sort(-values.reshape(values.shape[0], -1).astype(np.float32), axis=1)[:, :8]
    return produce(hardware.VECTOR, "max8", n, (src,), top.copy(), output_dtype(dtype, src.dtype))


def nc_find_index8(*, data, vals, mask=None, dtype=None, **kwargs):
    """Index of the first occurrence of each of eight values in each partition."""
    n = cost.free_size(data.shape)
    if not 8 <= n <= 16384 or cost.free_size(vals.shape) != 8:
        raise ShapeError(
            f"nc_find_index8: data {data!r} must have 8 to 16384 elements a partition and vals {vals!r} 8"
        )
    values = operand(data, "nc_find_index8", "data").reshape(data.shape[0], -1)
    wanted = operand(vals, "nc_find_index8", "vals").reshape(vals.shape[0], 8)
    found = (values[:, None, :] == wanted[:, :, None]).argmax(axis=2).astype(np.uint32)
    out = output_dtype(dtype, np.dtype(np.uint32))
    return produce(hardware.VECTOR, "nc_find_index8", n, (data, vals), found, out)


def tensor_tensor_scan(
    data0, data1, initial, op0, op1, reverse0=False, reverse1=False, *, dtype=None, mask=None, **kwargs
):
    """result[i] = (data0[i] op0 result[i - 1]) op1 data1[i] along the free axis."""
    name = "tensor_tensor_scan"
    first, second = operand(data0, name, "data0"), operand(data1, name, "data1")
    same_partitions(name, data0=data0, data1=data1)
    if data0.buffer.memory == PSUM and data1.buffer.memory == PSUM:
        raise MemorySpaceError(f"{name}: data0 and data1 cannot both be in PSUM")
    _, inner, _ = operators.binary(op0, name)
    _, outer, _ = operators.binary(op1, name)
    shape = first.shape
    first, second = first.reshape(shape[0], -1), second.reshape(shape[0], -1)
    state = np.broadcast_to(np.asarray(column(initial, data0, name, "initial")).reshape(-1, 1), (shape[0], 1))
    state, result = state[:, 0].astype(np.float32), np.empty(first.shape, np.float32)
    for i in range(first.shape[1]):
        state = apply(inner, False, first[:, i], state, reverse0, name)
        state = apply(outer, False, state, second[:, i], reverse1, name)
        result[:, i] = state
    out = output_dtype(dtype, dtypes.promote(data0.dtype, data1.dtype))
    reads = [data0, data1] + ([initial] if isinstance(initial, Tensor) else [])
    cycles = cost.at_least(2 * first.shape[1])
    return produce(hardware.VECTOR, name, cycles, reads, result.reshape(shape), out)
