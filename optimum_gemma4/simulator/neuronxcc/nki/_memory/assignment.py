# SPDX-License-Identifier: Apache-2.0
"""Assignment and accumulation of tiles.

A result that is assigned right away (`tile[...] = nisa.op(...)`) is written there by the instruction itself; otherwise
the assignment is a copy on the Vector Engine. `psum[...] += nc_matmul(...)` accumulates on the Tensor Engine for free
(SDK 2.26 `trainium_inferentia2_arch.rst`), any other `+=` is a Vector instruction.
"""

import numpy as np

from .._machine import cost, dtypes, hardware
from .._machine.errors import (
    DtypeError,
    MemorySpaceError,
    NkiError,
    OperatorError,
    ShapeError,
    UninitializedReadError,
)
from .checks import check_place, check_scope, operand, same_partitions
from .context import current
from .execute import note_write, record
from .tensor import ON_CHIP, PSUM, SBUF, Tensor


def _fusable(value: Tensor, target: Tensor):
    """Position of the instruction that produced `value` if it can write `target` instead, else None."""
    position = value.buffer.pending
    if position is None or value.data.size != value.buffer.data.size or value.buffer.remaining:
        return None
    instruction = current().trace.instructions[position]
    if not engine_writes(instruction.engine, target.buffer.memory):
        return None
    latest = target.tracker().latest(target.region)
    return position if latest < position else None


def _retarget(position: int, value: Tensor, target: Tensor, accumulate: bool) -> None:
    program = current()
    instruction = program.trace.instructions[position]
    note_write(program, target, position, instruction.depends, accumulate)
    instruction.memories = instruction.memories[:-1] + (target.buffer.memory,)
    for allocation in value.buffer.allocations.values():
        allocation.first = None
    value.buffer.pending = None


def engine_writes(engine: str, memory: str) -> bool:
    """Whether an engine's results can go to a memory."""
    if engine == hardware.PE:
        return memory == PSUM
    if engine in (hardware.GPSIMD, hardware.DMA):
        return memory == SBUF
    return True


def fit(values: np.ndarray, target: Tensor, instruction: str) -> np.ndarray:
    """Match a value's shape to a destination: equal, equal up to axes of size one, or broadcast from it."""
    if values.shape == target.shape:
        return values
    if values.size == int(np.prod(target.shape)):
        if [s for s in values.shape if s != 1] == [s for s in target.shape if s != 1]:
            return values.reshape(target.shape)
    elif values.ndim == len(target.shape) and values.shape[0] in (target.shape[0],):
        if all(a == b or a == 1 for a, b in zip(values.shape, target.shape)):
            return np.broadcast_to(values, target.shape)
    raise ShapeError(
        f"illegal assignment destination shape in {instruction}: shape {list(target.shape)} of the destination does "
        f"not take {list(values.shape)}"
    )


def assign(target: Tensor, value) -> None:
    """`target[...] = value` on chip: the producing instruction writes it, or a copy does.

    Raises:
        NkiError: For a destination in HBM or a value that is no tile or number.
    """
    from ..isa.movement import memset_into, tensor_copy_into

    check_scope(target, "assignment destination")
    if target.buffer.memory not in ON_CHIP:
        raise MemorySpaceError(f"assignment to {target!r}: write HBM with nl.store or nisa.dma_copy")
    check_place(target, "assignment destination", ON_CHIP, True)
    if isinstance(value, (int, float, np.generic)) and not isinstance(value, bool):
        memset_into(target, value)
        return
    if not isinstance(value, Tensor):
        raise NkiError(f"assignment to {target!r} needs a tile or a number, got {type(value).__name__}")
    same = value.buffer is target.buffer and value.region.key() == target.region.key()
    if same and value.fancy is None and target.fancy is None:
        return
    check_scope(value, "assigned value")
    position = _fusable(value, target)
    if position is None or value.shape != target.shape and value.data.size != target.data.size:
        tensor_copy_into(target, value)
        return
    values = fit(value.data, target, "assignment")
    target.assign(dtypes.rounded(values, target.dtype))
    _retarget(position, value, target, accumulate=False)


def _group_total(target: Tensor, values: np.ndarray) -> np.ndarray:
    try:
        return target.values("accumulation") + values
    except UninitializedReadError as error:
        current().relax("psum_start", UninitializedReadError, f"{error}; make it with nl.zeros")
        return values


def _check_group(target: Tensor) -> None:
    """Refuse a matmul that accumulates onto what another engine wrote: PSUM adds to matmuls alone."""
    instructions = current().trace.instructions
    for writer in target.tracker().writers(target.region):
        if instructions[writer].engine != hardware.PE:
            current().relax(
                "psum_start",
                OperatorError,
                f"a matmul accumulates into {target!r}, which {instructions[writer].name} wrote: PSUM accumulates "
                "matmuls alone; add in SBUF, or accumulate from nl.zeros",
            )


def accumulate(target: Tensor, value) -> Tensor:
    """`target += value`: by the Tensor Engine if it just computed `value` into PSUM, else by the Vector Engine."""
    if isinstance(value, Tensor) and target.buffer.memory == PSUM and value.shape == target.shape:
        position = _fusable(value, target)
        if position is not None and current().trace.instructions[position].engine == hardware.PE:
            check_scope(target, "accumulation destination")
            if target.dtype != dtypes.FLOAT32:
                raise DtypeError(f"PSUM accumulates in float32, not into {target!r}")
            _check_group(target)
            # A zeroed PSUM tile needs no memset here: the first matmul of the group overwrites it.
            target.buffer.lazy_zero = False
            target.assign(_group_total(target, value.data))
            _retarget(position, value, target, accumulate=True)
            return target
    if isinstance(value, Tensor):
        values = operand(value, "+=", "value")
        same_partitions("+=", target=target, value=value)
        cycles, fast = cost.tensor_tensor(target, value, "add", target.dtype)
        if target.buffer.memory == PSUM and value.buffer.memory == PSUM:
            raise MemorySpaceError(f"+=: {target!r} and {value!r} cannot both be in PSUM on the Vector Engine")
    else:
        values = np.float32(value)
        cycles, fast = cost.tensor_scalar(target, target.dtype)
    current_values = operand(target, "+=", "destination")
    reads = [target, value] if isinstance(value, Tensor) else [target]
    record(hardware.VECTOR, "tensor_tensor", cycles, reads, target, fast, accumulate=True)
    total = current_values + (values if np.ndim(values) == 0 else fit(values, target, "+="))
    target.assign(dtypes.rounded(total, target.dtype))
    return target
