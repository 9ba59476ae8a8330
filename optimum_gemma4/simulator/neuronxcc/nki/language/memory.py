# SPDX-License-Identifier: Apache-2.0
"""Moving tiles between HBM and the chip: load, store, load_transpose2d, copy."""

from .._machine import hardware
from .._machine.errors import IndexingError, MemorySpaceError, TileSizeError
from .._memory.tensor import PSUM, Tensor
from ..isa import dma, movement
from ..isa.dma import indirect_tiles


def load(src, *, mask=None, dtype=None, **kwargs):
    """Bring an HBM view [P <= 128, ...] into a new SBUF tile."""
    return dma.read_tile(src, "load", dtype, mask)


def load_transpose2d(src, *, mask=None, dtype=None, **kwargs):
    """Bring an HBM view [F, P] into a new SBUF tile [P, F]; slow, element by element."""
    if len(src.shape) != 2 or indirect_tiles(src):
        raise IndexingError(f"load_transpose2d takes a 2-D view without indirect indices, got {src!r}")
    if src.shape[1] > hardware.PARTITIONS:
        raise TileSizeError(f"load_transpose2d: the result of {src!r} would have {src.shape[1]} partitions")
    return dma.dma_transpose(src, mask=mask, dtype=dtype)


def store(dst, value, *, mask=None, **kwargs):
    """Send a tile to an HBM view; a PSUM tile is copied to SBUF first, a number fills the view."""
    if not isinstance(dst, Tensor):
        raise MemorySpaceError(f"store: dst must be an HBM tensor, got {type(dst).__name__}")
    if not isinstance(value, Tensor):
        if len(dst.shape) < 2 or dst.shape[0] > hardware.PARTITIONS:
            raise TileSizeError(f"store: {dst!r} is not a tile of at most {hardware.PARTITIONS} partitions")
        value = movement.memset(dst.shape, value, dst.dtype)
    if value.buffer.memory == PSUM:
        value = movement.tensor_copy(value)
    dma.write_tile(dst, value, "store", mask)


def copy(src, *, mask=None, dtype=None, **kwargs):
    """Copy a tile within the chip."""
    return movement.tensor_copy(src, mask=mask, dtype=dtype)


def device_print(prefix, x, *, mask=None, **kwargs):
    """Show a tile's values (simulation only), through the logger of this module."""
    import logging

    logging.getLogger(__name__).warning("%s %s", prefix, x.values("device_print") if isinstance(x, Tensor) else x)


__all__ = ["copy", "device_print", "load", "load_transpose2d", "store"]
