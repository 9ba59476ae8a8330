# SPDX-License-Identifier: Apache-2.0
"""DMA instructions: dma_copy and dma_transpose, and the transfers behind nl.load and nl.store.

A transfer has bytes and a row length: the contiguous bytes of one descriptor, the smaller of the HBM side's innermost
run and the on-chip side's run a partition. Rows below 256 bytes are reported: they are bound by descriptor overhead
(SDK 2.29 `nki-dma-bandwidth-guide.rst`).
"""

import numpy as np

from .._machine import dtypes, hardware
from .._machine.errors import IndexingError, MemorySpaceError, NkiError, OperatorError, ShapeError, TargetError
from .._memory.assignment import fit
from .._memory.checks import check_place, mask_for, operand
from .._memory.context import current
from .._memory.execute import fresh, record
from .._memory.indexing import check_valid
from .._memory.tensor import HBM, SBUF, SHARED_HBM, Tensor
from .._profile.trace import Transfer
from .constants import dge_mode as modes
from .constants import oob_mode as oob


DEVICE = (HBM, SHARED_HBM)
_ANYWHERE = (HBM, SHARED_HBM, SBUF)


def contiguous_run(tensor: Tensor) -> int:
    """Bytes that lie next to each other at the innermost end of a view (within a partition if on chip)."""
    if tensor.fancy is not None:
        last = np.broadcast_to(tensor.fancy[-1], tensor.shape)
        steps = np.diff(last, axis=-1)
        return (tensor.shape[-1] if steps.size and (steps == 1).all() else 1) * tensor.itemsize
    expected, run = tensor.data.itemsize, 1
    stop = 1 if tensor.buffer.memory == SBUF else 0
    for axis in range(len(tensor.shape) - 1, stop - 1, -1):
        if tensor.shape[axis] != 1 and tensor.data.strides[axis] != expected:
            break
        run *= tensor.shape[axis]
        expected *= tensor.shape[axis]
    return run * tensor.itemsize


def transfer(source: Tensor, target: Tensor, count: int) -> Transfer:
    """Describe the transfer of `count` elements between two views."""
    from_hbm, to_hbm = source.buffer.memory in DEVICE, target.buffer.memory in DEVICE
    outside = source if from_hbm else target
    row = min(contiguous_run(source), contiguous_run(target))
    direction = "read" if from_hbm else "write" if to_hbm else "local"
    return Transfer(count * outside.itemsize, row, outside.buffer.name, direction)


def indirect_tiles(tensor: Tensor) -> tuple:
    """Index tiles that an access reads."""
    return tensor.dynamic[1] if tensor.dynamic is not None else ()


def check_dge(mode, instruction: str) -> None:
    """Refuse hardware descriptor generation before NeuronCore-v3."""
    if mode == modes.hwdge and current().generation.version < 3:
        raise TargetError(f"{instruction}: dge_mode.hwdge is supported from NeuronCore-v3 on")


def read_tile(source: Tensor, instruction: str, dtype, mask) -> Tensor:
    """Bring an HBM view into a new SBUF tile."""
    if isinstance(source, Tensor) and len(source.shape) == 1:
        # A vector fills one element of each partition.
        written = None if source.written is None else source.written[:, None]
        source = Tensor(source.buffer, source.data[:, None], written, source.region)
    where = mask_for(mask, source.shape, instruction)
    values = operand(source, instruction, "src", DEVICE, where, compute=False)
    out = source.dtype if dtype is None else dtypes.canonical(dtype)
    rounded = dtypes.rounded(values, out) if out != source.dtype else values.copy()
    tile = fresh(rounded, out, SBUF, where, instruction)
    count = values.size if where is None else int(np.count_nonzero(where))
    reads = (source, *indirect_tiles(source))
    position = record(hardware.DMA, instruction, 0, reads, tile, dma=transfer(source, tile, count))
    tile.buffer.pending = position
    return tile


def dma_copy(*, dst, src, mask=None, dst_rmw_op=None, oob_mode=oob.error, dge_mode=modes.unknown):
    """Copy between HBM and SBUF in either direction (or within one), casting if the types differ."""
    name = "dma_copy"
    check_dge(dge_mode, name)
    if not isinstance(dst, Tensor) or not isinstance(src, Tensor):
        raise NkiError("dma_copy: dst and src must be tensors")
    where = mask_for(mask, dst.shape, name)
    check_place(dst, "operand 'dst' of dma_copy", _ANYWHERE, False)
    if oob_mode == oob.skip and (src.dynamic or dst.dynamic):
        for side in (src, dst):
            if side.dynamic is not None and side.dynamic[0] is not None:
                where = ~side.dynamic[0] if where is None else where & ~side.dynamic[0]
    values = operand(src, name, "src", _ANYWHERE, where if src.shape == dst.shape else None, compute=False)
    if dst.dynamic is not None:
        check_valid(dst, where, "operand 'dst' of dma_copy")
    if values.size != int(np.prod(dst.shape)):
        raise ShapeError(f"dma_copy: src {src!r} and dst {dst!r} differ in size")
    values = values if values.shape == dst.shape else values.reshape(dst.shape)
    reads = [src, *indirect_tiles(src), *indirect_tiles(dst)]
    if dst_rmw_op is not None:
        if getattr(dst_rmw_op, "__name__", "") != "add" or oob_mode != oob.error:
            raise OperatorError("dma_copy: dst_rmw_op supports np.add with oob_mode.error alone")
        values = values + dst.values("operand 'dst' of dma_copy", where)
        reads.append(dst)
    count = values.size if where is None else int(np.count_nonzero(where))
    record(hardware.DMA, name, 0, reads, dst, dma=transfer(src, dst, count))
    dst.assign(dtypes.rounded(np.asarray(values), dst.dtype), where)


def write_tile(target: Tensor, source: Tensor, instruction: str, mask) -> None:
    """Send an SBUF tile to an HBM view."""
    if target.buffer.memory not in DEVICE:
        raise MemorySpaceError(f"expected operand 'dst' of {instruction} to be in HBM, got {target!r}")
    where = mask_for(mask, target.shape, instruction)
    if target.dynamic is not None:
        check_valid(target, where, f"operand 'dst' of {instruction}")
    inner = where if where is not None and where.shape == source.shape else None
    values = fit(operand(source, instruction, "value", (SBUF,), inner, compute=False), target, instruction)
    count = values.size if where is None else int(np.count_nonzero(where))
    moved = transfer(source, target, count)
    record(hardware.DMA, instruction, 0, (source, *indirect_tiles(target)), target, dma=moved)
    target.assign(dtypes.rounded(np.array(values), target.dtype), where)


_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}


def dma_transpose(src, *, axes=None, mask=None, dtype=None, dge_mode=modes.unknown, **kwargs):
    """Transpose a tile in HBM or SBUF on the way into a new SBUF tile (2- and 4-byte types)."""
    name = "dma_transpose"
    check_dge(dge_mode, name)
    expected = _AXES.get(len(src.shape))
    if expected is None or (axes is not None and tuple(axes) != expected):
        raise OperatorError(f"dma_transpose: axes {axes} of {src!r} are not supported; expected {expected}")
    if indirect_tiles(src):
        raise IndexingError("dma_transpose does not support indirect indices")
    if src.itemsize not in (2, 4):
        raise OperatorError(f"dma_transpose moves 2- or 4-byte elements, got {src!r}")
    values = operand(src, name, "src", _ANYWHERE, compute=False).transpose(expected).copy()
    out = src.dtype if dtype is None else dtypes.canonical(dtype)
    tile = fresh(dtypes.rounded(values, out), out, SBUF, None, name)
    moved = transfer(src, tile, values.size)
    # Transposing descriptors move one element each; the throughput is a fraction of a plain copy's.
    moved.row_bytes = src.itemsize
    tile.buffer.pending = record(hardware.DMA, name, 0, (src,), tile, dma=moved)
    return tile
