# SPDX-License-Identifier: Apache-2.0
"""GpSimd Engine instructions: affine_select, iota, partition reduction, sequence bounds.

GpSimd cannot access PSUM (SDK 2.26 arch guide), so tiles there are refused; a run that relaxes `gpsimd_psum` gets the
copy to SBUF that the compiler may insert, and pays for it.
"""

import numpy as np

from .._machine import cost, dtypes, hardware, operators
from .._machine.errors import DtypeError, MaskError, MemorySpaceError, OperatorError, ShapeError
from .._memory.checks import mask_for, operand
from .._memory.context import current
from .._memory.execute import produce
from .._memory.index import Index, IndexArray
from .._memory.predicate import Predicate
from .._memory.tensor import PSUM, SBUF, Tensor
from .movement import tensor_copy
from .on_vector import output_dtype


def _sbuf(tile, instruction: str, name: str) -> Tensor:
    if isinstance(tile, Tensor) and tile.buffer.memory == PSUM:
        current().relax(
            "gpsimd_psum",
            MemorySpaceError,
            f"{instruction}: GpSimd cannot access PSUM, where operand {name!r} is ({tile!r}); copy it to SBUF first",
        )
        return tensor_copy(tile)
    return tile


def affine_select(pred, on_true_tile, on_false_value, *, mask=None, dtype=None, **kwargs):
    """Keep elements where an affine comparison holds, replace the others by a number."""
    name = "affine_select"
    if not isinstance(pred, Predicate) or not pred.affine:
        raise MaskError(f"affine_select: pred must be an affine comparison of indices, got {type(pred).__name__}")
    if not pred.single:
        raise MaskError("affine_select: pred cannot be several comparisons combined with & or |; use nl.where")
    if not isinstance(on_false_value, (int, float, np.floating)):
        raise DtypeError(
            f"affine_select: on_false_value must be a float32 number, got {type(on_false_value).__name__}"
        )
    tile = _sbuf(on_true_tile, name, "on_true_tile")
    if not dtypes.is_float(tile.dtype) and tile.dtype.itemsize > 2:
        raise DtypeError(f"affine_select takes float and 8/16-bit integer tiles, got {tile!r}")
    where = mask_for(mask, tile.shape, name)
    values = operand(tile, name, "on_true_tile", where=where)
    keep = np.asarray(pred.values)
    if keep.shape != values.shape:
        if keep.ndim != values.ndim or any(k not in (1, v) for k, v in zip(keep.shape, values.shape)):
            raise ShapeError(f"affine_select: pred has shape {keep.shape}, on_true_tile is {tile!r}")
    result = np.where(keep, values, values.dtype.type(on_false_value))
    out = output_dtype(dtype, tile.dtype)
    return produce(hardware.GPSIMD, name, cost.gpsimd(tile.shape), (tile,), result, out, where=where)


def iota(expr, dtype, *, mask=None, **kwargs):
    """A tile of the values of an affine index expression."""
    if not isinstance(expr, (Index, IndexArray)):
        raise MaskError(f"iota: expr must be an affine expression of nl.arange indices, got {type(expr).__name__}")
    values = np.array(expr.values if isinstance(expr, IndexArray) else [[expr.value]], dtype=np.int64)
    if values.ndim < 2:
        raise ShapeError("iota: expr must have a partition and a free axis; use nl.arange(n)[None, :]")
    absent = [axis for axis, size in enumerate(values.shape) if size > 1 and not expr.coefficients.get(axis)]
    if absent:
        raise ShapeError(f"iota: axes {absent} of {expr!r} are not in the expression, which would have no such axes")
    out = dtypes.canonical(dtype)
    values = values.astype(np.float32 if dtypes.is_float(out) else out)
    where = mask_for(mask, values.shape, "iota")
    return produce(hardware.GPSIMD, "iota", cost.gpsimd(values.shape), (), values, out, SBUF, where)


def tensor_partition_reduce(op, data, *, mask=None, dtype=None, **kwargs):
    """Reduce across partitions to one."""
    name = "tensor_partition_reduce"
    tile = _sbuf(data, name, "data")
    op_name, ufunc, _ = operators.reduction(op, name)
    if op_name not in ("add", "maximum", "bitwise_or", "bitwise_and"):
        raise OperatorError(f"tensor_partition_reduce implements add, max, bitwise_or and bitwise_and, not {op_name}")
    where = mask_for(mask, tile.shape, name)
    values = operand(tile, name, "data", where=where)
    if where is not None:
        values = np.where(where, values, -np.inf if op_name == "maximum" else 0).astype(values.dtype)
    result = ufunc.reduce(values, axis=0, keepdims=True)
    return produce(hardware.GPSIMD, name, cost.gpsimd(tile.shape), (tile,), result, output_dtype(dtype, tile.dtype))


def sequence_bounds(*, segment_ids, dtype=None):
    """[1, 2, n]: first and one-past-last index of each element's segment; padding (id 0) gets n and -1."""
    values = operand(segment_ids, "sequence_bounds", "segment_ids", (SBUF,))
    if values.shape[0] != 1:
        raise ShapeError(f"sequence_bounds: the partition size must be 1, got {segment_ids!r}")
    out = output_dtype(dtype, segment_ids.dtype)
    if any(t not in (dtypes.FLOAT32, np.dtype(np.int32)) for t in (out, segment_ids.dtype)):
        raise DtypeError(f"sequence_bounds takes and gives float32 or int32, got {segment_ids.dtype} and {out}")
    ids = values.reshape(-1)
    size = ids.size
    result = np.empty((1, 2, size), values.dtype)
    for i, segment in enumerate(ids):
        members = np.flatnonzero(ids == segment)
        result[0, :, i] = (size, -1) if segment == 0 else (members[0], members[-1] + 1)
    return produce(hardware.GPSIMD, "sequence_bounds", cost.gpsimd((1, size)), (segment_ids,), result, out)
