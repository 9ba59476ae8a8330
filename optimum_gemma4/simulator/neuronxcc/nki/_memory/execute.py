# SPDX-License-Identifier: Apache-2.0
"""Issuing instructions: operand checks, results, assignment, accumulation.

`operand` checks a tile that an engine reads, `record` notes the instruction and its dependencies, `produce` makes its
result tile. A result that is assigned right away (`tile[...] = nisa.op(...)`) is written by the instruction itself;
otherwise the assignment is a copy. `psum[...] += nc_matmul(...)` accumulates on the Tensor Engine for free.
"""

import numpy as np

from .._machine import cost, dtypes, hardware
from .._machine.errors import (
    DtypeError,
    ImmutableParameterError,
    IndexingError,
    LoopDependencyError,
    MemorySpaceError,
    NkiError,
    PartitionMismatchError,
    ScopeError,
    ShapeError,
    StartPartitionError,
    TileSizeError,
)
from .context import current
from .index import mask_values
from .indexing import check_valid
from .regions import loop_conflict
from .tensor import ON_CHIP, PSUM, SBUF, Buffer, Tensor


def mask_for(mask, shape, instruction: str) -> np.ndarray | None:
    """Evaluate a mask for a tile shape; None means everything."""
    if mask is None:
        return None
    values = mask_values(mask, instruction)
    if values is True:
        return None
    return np.broadcast_to(values, shape)


def check_scope(tensor: Tensor, what: str) -> None:
    """Refuse a tensor whose loop iteration or if block is over."""
    if tensor.buffer.scope not in current().open_scopes:
        raise ScopeError(
            f"{what}: local variable {tensor!r} is referenced outside of its parent scope; create it before the loop or "
            "if block and fill it with t[...] = value"
        )


def operand(tensor, instruction: str, name: str, memories=ON_CHIP, where=None, compute=True) -> np.ndarray:
    """Check a tile that an instruction reads and return its values.

    Args:
        tensor: The operand.
        instruction: Name of the instruction, for messages.
        name: Name of the parameter, for messages.
        memories: Memories it may be in.
        where: Positions that are used, if masked.
        compute: Whether a compute engine reads it (start partition rule); False for DMA.
    """
    what = f"operand {name!r} of {instruction}"
    if not isinstance(tensor, Tensor):
        raise NkiError(f"{what} must be a tile, got {type(tensor).__name__}")
    check_scope(tensor, what)
    check_place(tensor, what, memories, compute)
    if tensor.dynamic is not None:
        check_valid(tensor, where, what)
    return tensor.values(what, where)


def check_place(tensor: Tensor, what: str, memories, compute: bool) -> None:
    """Check memory, tile form and partition placement of an access."""
    memory = tensor.buffer.memory
    if memory not in memories:
        raise MemorySpaceError(
            f"expected {what} to be in address space {'|'.join(memories)}, but got a tile in {memory!r}: {tensor!r}"
        )
    if memory in ON_CHIP:
        if tensor.par_axis != 0:
            raise IndexingError(f"failed to infer tile from {tensor!r}: {what} must have the partition axis first")
        partitions = tensor.shape[0]
        if partitions > hardware.PARTITIONS:
            raise TileSizeError(
                f"{what}: number of partitions {partitions} exceeds architecture limitation of {hardware.PARTITIONS}"
            )
        if compute and tensor.region.frame is None:
            lo = tensor.region.box[tensor.buffer.par_axis][0]
            if lo and (lo % 32 or partitions > 64 or (partitions > 32 and lo != 64)):
                raise StartPartitionError(
                    f"{what}: {tensor!r} starts at partition {lo} with {partitions} partitions; engines start at 0, at "
                    "64 with at most 64 partitions, or at 32 / 96 with at most 32"
                )


def same_partitions(instruction: str, **tiles) -> None:
    """Refuse operands with unequal partition counts."""
    sizes = {name: t.shape for name, t in tiles.items() if isinstance(t, Tensor)}
    if len({shape[0] for shape in sizes.values()}) > 1:
        shown = ", ".join(f"{name}{list(shape)}" for name, shape in sizes.items())
        raise PartitionMismatchError(f"number of partitions mismatch in parameters ({shown}) of {instruction!r}")


def record(engine, name, cycles, reads, write=None, fast_cycles=None, dma=None, accumulate=False, extra=()) -> int:
    """Note an instruction: its cost, what it waits for, and which tiles it keeps alive.

    Args:
        engine: Engine that executes it.
        name: Instruction name.
        cycles: Engine cycles.
        reads: Tiles it reads.
        write: Tile it writes, if it is not a fresh result.
        fast_cycles: Cycles with NeuronCore-v3's Vector performance modes.
        dma: Transfer, for DMAs.
        accumulate: Whether it adds to `write` associatively.
        extra: Further tiles it writes.

    Returns:
        Position of the instruction.
    """
    program = current()
    trace = program.trace
    position = len(trace.instructions)
    depends: set = set()
    memories = []
    path = program.affine_path
    for tensor in reads:
        buffer = tensor.buffer
        if buffer.lazy_zero:
            buffer.lazy_zero = False
            cycles_zero, fast_zero = cost.memset(tensor.shape, buffer.dtype, 0)
            record(hardware.VECTOR, "memset", cycles_zero, (), Tensor.whole(buffer), fast_zero)
            position = len(trace.instructions)
        buffer.pending = None
        memories.append(buffer.memory)
        if buffer.parameter and not buffer.mutable:
            continue
        tracker = tensor.tracker()
        if path and path[-1][2] >= buffer.scope_depth:
            other = tracker.conflict(tensor.region, path, buffer.scope_depth, accumulate and tensor is write)
            if other is not None:
                program.relax("affine_rewrite", LoopDependencyError, str(loop_conflict("read", tensor, other)))
        tracker.read(tensor.region, position, engine, depends)
        buffer.touch(position, tensor.blocks())
    for tensor in ((write,) if write is not None else ()) + tuple(extra):
        _note_write(program, tensor, position, depends, accumulate)
        memories.append(tensor.buffer.memory)
    return trace.add(engine, name, cycles, depends, tuple(memories), fast_cycles, dma)


def _note_write(program, tensor, position, depends, accumulate) -> None:
    buffer, path = tensor.buffer, program.affine_path
    check_scope(tensor, "destination")
    if not buffer.mutable:
        if not program.outputs_are_arguments:
            raise ImmutableParameterError(
                f"cannot update immutable parameter {tensor!r}; annotate it as nt.mutable_tensor and return it, or "
                "return a tensor made in nl.shared_hbm"
            )
        # The first store makes the parameter an output: what it held before does not exist on the device.
        buffer.mutable = True
        buffer.remaining = buffer.data.size
    buffer.pending = None
    tracker = tensor.tracker()
    if path and path[-1][2] >= buffer.scope_depth:
        other = tracker.conflict(tensor.region, path, buffer.scope_depth, accumulate)
        if other is not None:
            program.relax("affine_rewrite", LoopDependencyError, str(loop_conflict("write", tensor, other)))
    tracker.write(tensor.region, position, depends, path, accumulate)
    buffer.touch(position, tensor.blocks())


def fresh(values, dtype, memory, where=None, name="") -> Tensor:
    """Make the tile of a result, already rounded to its type; masked-out positions stay unwritten."""
    if memory == PSUM:
        check_bank(values.shape, dtype, name)
    if where is None:
        return Tensor.whole(Buffer(values.shape, dtype, memory, 0, name, np.ascontiguousarray(values)))
    tile = Tensor.whole(Buffer(values.shape, dtype, memory, 0, name))
    tile.assign(values, where)
    return tile


def check_bank(shape, dtype, name, par_axis=0) -> None:
    """Refuse a PSUM tile larger than one bank."""
    size = int(np.prod(shape[par_axis + 1 :], dtype=np.int64)) * dtype.itemsize
    if size > hardware.PSUM_BANK_BYTES:
        raise TileSizeError(
            f"PSUM tile {name or 'result'}{list(shape)} of {dtype} takes {size} bytes a partition; a tile must fit one "
            f"bank of {hardware.PSUM_BANK_BYTES} bytes (512 float32)"
        )


def produce(engine, name, cycles, reads, values, dtype, memory=SBUF, where=None, fast_cycles=None, dma=None, extra=()):
    """Issue an instruction whose result is a new tile.

    Args:
        values: The result in float32 (or the integer type); rounded here.
        dtype: Type of the result.
        memory: Where the engine writes.
        where: Evaluated mask.
        extra: (tile, values) pairs that it writes as well (`reduce_res`).

    Returns:
        The result tile.
    """
    tile = fresh(dtypes.rounded(values, dtype), dtype, memory, where, name)
    outs = []
    for out, out_values in extra:
        check_place(out, f"second output of {name}", ON_CHIP, True)
        outs.append(out)
        out.assign(dtypes.rounded(out_values, out.dtype).reshape(out.shape))
    position = record(engine, name, cycles, reads, tile, fast_cycles, dma, extra=outs)
    tile.buffer.pending = position
    return tile


def engine_writes(engine: str, memory: str) -> bool:
    """Whether an engine's results can go to a memory."""
    if engine == hardware.PE:
        return memory == PSUM
    if engine in (hardware.GPSIMD, hardware.DMA):
        return memory == SBUF
    return True


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
    _note_write(program, target, position, instruction.depends, accumulate)
    instruction.memories = instruction.memories[:-1] + (target.buffer.memory,)
    for allocation in value.buffer.allocations.values():
        allocation.first = None
    value.buffer.pending = None


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
        f"illegal assignment destination shape in {instruction}: shape {list(target.shape)} of the destination does not "
        f"take {list(values.shape)}"
    )


def assign(target: Tensor, value) -> None:
    """`target[...] = value` on chip: the producing instruction writes it, or a copy does.

    Raises:
        NkiError: For a destination in HBM or a value that is no tile or number.
    """
    from ..isa.vector_engine import memset_into, tensor_copy_into

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


def accumulate(target: Tensor, value) -> Tensor:
    """`target += value`: on the Tensor Engine if it just computed `value` into PSUM, otherwise on the Vector Engine."""
    if isinstance(value, Tensor) and target.buffer.memory == PSUM and value.shape == target.shape:
        position = _fusable(value, target)
        if position is not None and current().trace.instructions[position].engine == hardware.PE:
            check_scope(target, "accumulation destination")
            if target.dtype != dtypes.FLOAT32:
                raise DtypeError(f"PSUM accumulates in float32, not into {target!r}")
            # A zeroed PSUM tile needs no memset here: the first matmul of the group overwrites it.
            target.buffer.lazy_zero = False
            total = target.values("accumulation") + value.data
            target.assign(total)
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
