# SPDX-License-Identifier: Apache-2.0
"""Checks of operands that every instruction shares: kind, scope, memory, form, partitions, start partition, masks.

Rules: SDK 2.26 `nki.errors.rst` and `arch/trainium_inferentia2_arch.rst` (engines start an access at partition 0, 32,
64 or 96, depending on how many partitions they access).
"""

import numpy as np

from .._machine import hardware
from .._machine.errors import (
    IndexingError,
    MemorySpaceError,
    NkiError,
    PartitionMismatchError,
    ScopeError,
    StartPartitionError,
    TileSizeError,
)
from .context import current
from .indexing import check_valid
from .predicate import mask_values
from .tensor import ON_CHIP, Tensor


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
            f"{what}: local variable {tensor!r} is referenced outside of its parent scope; create it before the loop "
            "or if block and fill it with t[...] = value"
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
        if compute and tensor.region.frame is None:
            lo = tensor.region.box[tensor.buffer.par_axis][0]
            if lo and (lo % 32 or partitions > 64 or (partitions > 32 and lo != 64)):
                raise StartPartitionError(
                    f"{what}: {tensor!r} starts at partition {lo} with {partitions} partitions; engines start at 0, "
                    "at 64 with at most 64 partitions, or at 32 / 96 with at most 32"
                )


def same_partitions(instruction: str, **tiles) -> None:
    """Refuse operands with unequal partition counts."""
    sizes = {name: t.shape for name, t in tiles.items() if isinstance(t, Tensor)}
    if len({shape[0] for shape in sizes.values()}) > 1:
        shown = ", ".join(f"{name}{list(shape)}" for name, shape in sizes.items())
        raise PartitionMismatchError(f"number of partitions mismatch in parameters ({shown}) of {instruction!r}")


def check_bank(shape, dtype, name, par_axis=0) -> None:
    """Refuse a PSUM tile larger than one bank."""
    size = int(np.prod(shape[par_axis + 1 :], dtype=np.int64)) * dtype.itemsize
    if size > hardware.PSUM_BANK_BYTES:
        raise TileSizeError(
            f"PSUM tile {name or 'result'}{list(shape)} of {dtype} takes {size} bytes a partition; a tile must fit "
            f"one bank of {hardware.PSUM_BANK_BYTES} bytes (512 float32)"
        )


def check_partitions(partitions: int, what: str) -> None:
    """Refuse a tile with more partitions than there are."""
    if partitions > hardware.PARTITIONS:
        raise TileSizeError(
            f"{what}: number of partitions {partitions} exceeds architecture limitation of {hardware.PARTITIONS}"
        )
