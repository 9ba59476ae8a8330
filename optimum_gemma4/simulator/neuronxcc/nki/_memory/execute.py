# SPDX-License-Identifier: Apache-2.0
"""Issuing instructions: `record` notes one with its cost and dependencies, `produce` makes its result tile.

Dependencies of every kind are found from the regions that are read and written; accesses that depend on another
iteration of an affine loop are refused here.
"""

import numpy as np

from .._machine import cost, dtypes, hardware
from .._machine.errors import ImmutableParameterError, LoopDependencyError
from .checks import check_bank, check_partitions, check_place, check_scope
from .context import current
from .regions import loop_conflict
from .tensor import ON_CHIP, PSUM, SBUF, Buffer, Tensor


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
        note_write(program, tensor, position, depends, accumulate)
        memories.append(tensor.buffer.memory)
    return trace.add(engine, name, cycles, depends, tuple(memories), fast_cycles, dma)


def note_write(program, tensor, position, depends, accumulate) -> None:
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
    """Make the tile of a result, already rounded to its type; masked-out positions are NaN."""
    check_partitions(values.shape[0], f"result of {name}")
    if memory == PSUM:
        check_bank(values.shape, dtype, name)
    if where is None:
        return Tensor.whole(Buffer(values.shape, dtype, memory, 0, name, np.ascontiguousarray(values)))
    # What a mask leaves out is undefined, not forbidden: kernels compute on it and mask it again when they store.
    undefined = np.nan if dtypes.is_float(dtype) else 0
    kept = np.where(where, values, values.dtype.type(undefined))
    return Tensor.whole(Buffer(values.shape, dtype, memory, 0, name, kept))


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
