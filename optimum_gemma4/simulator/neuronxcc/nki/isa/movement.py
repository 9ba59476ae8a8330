# SPDX-License-Identifier: Apache-2.0
"""Copies, constants and reciprocals: tensor_copy and memset (several engines), reciprocal (Vector Engine).

`tensor_copy_into` and `memset_into` are what assigning a tile or a number to a tile costs.
"""

import numpy as np

from .._machine import cost, dtypes, hardware
from .._memory.assignment import fit
from .._memory.checks import mask_for, operand
from .._memory.execute import produce, record
from .._memory.tensor import SBUF, Tensor
from .constants import engine as engines
from .on_vector import output_dtype, pick_engine


def tensor_copy(src, *, mask=None, dtype=None, engine=engines.unknown, **kwargs):
    """Copy a tile within SBUF and PSUM."""
    name = "tensor_copy"
    chosen = pick_engine(engine, name, (engines.vector, engines.scalar, engines.gpsimd), (src,))
    where = mask_for(mask, src.shape, name)
    values = operand(src, name, "src", where=where)
    out = output_dtype(dtype, src.dtype)
    cycles, fast = cost.tensor_copy(src, out)
    if chosen != hardware.VECTOR:
        fast = cycles
    values = values.copy() if out == src.dtype else values
    return produce(chosen, name, cycles, (src,), values, out, where=where, fast_cycles=fast)


def tensor_copy_into(target: Tensor, source: Tensor) -> None:
    """The copy that an assignment between two tiles takes, on the Vector Engine."""
    values = fit(operand(source, "tensor_copy", "src"), target, "assignment")
    cycles, fast = cost.tensor_copy(target, source.dtype, source.buffer.memory)
    record(hardware.VECTOR, "tensor_copy", cycles, (source,), target, fast)
    target.assign(dtypes.rounded(values, target.dtype))


def reciprocal(data, *, dtype=None, mask=None, **kwargs):
    """1 / data on the Vector Engine."""
    where = mask_for(mask, data.shape, "reciprocal")
    values = operand(data, "reciprocal", "data", where=where)
    out = output_dtype(dtype, data.dtype)
    cycles = cost.at_least(8 * cost.free_size(data.shape))
    result = np.float32(1) / values.astype(np.float32)
    return produce(hardware.VECTOR, "reciprocal", cycles, (data,), result, out, where=where)


def memset(shape, value, dtype, *, mask=None, engine=engines.unknown, **kwargs):
    """A tile filled with a constant."""
    chosen = pick_engine(engine, "memset", (engines.vector, engines.gpsimd), ())
    out = dtypes.canonical(dtype)
    values = np.full(tuple(shape), value, dtypes.storage(out))
    cycles, fast = cost.memset(values.shape, out, value)
    where = mask_for(mask, values.shape, "memset")
    return produce(chosen, "memset", cycles, (), values, out, SBUF, where, fast)


def memset_into(target: Tensor, value) -> None:
    """The memset that assigning a number to a tile takes."""
    cycles, fast = cost.memset(target.shape, target.dtype, value)
    record(hardware.VECTOR, "memset", cycles, (), target, fast)
    target.assign(dtypes.rounded(np.full(target.shape, value, dtypes.storage(target.dtype)), target.dtype))
