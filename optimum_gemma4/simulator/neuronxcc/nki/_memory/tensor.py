# SPDX-License-Identifier: Apache-2.0
"""Tensors of the simulated machine: buffers, the views that index them, and what is known of each location.

A `Buffer` is one `nl.ndarray` (or the anonymous result of an instruction); a `Tensor` is a view of it. On-chip views
always have their partition axis first, or a block axis before it, and at least two axes. Fresh memory is NaN and every
location remembers whether it was written, so an uninitialised read is refused and not merely wrong.
"""

import numpy as np

from .._machine import dtypes
from .._machine.errors import ControlFlowError, LoopDependencyError, NkiError, ShapeError, UninitializedReadError
from .._profile.trace import Allocation
from .arithmetic import Arithmetic
from .context import current, new_uid
from .regions import Region, Tracker


HBM, SHARED_HBM, SBUF, PSUM = "hbm", "shared_hbm", "sbuf", "psum"
ON_CHIP = (SBUF, PSUM)


class Buffer:
    """Memory behind tensors.

    Args:
        shape: Logical shape, block axes included.
        dtype: Type of the elements.
        memory: `hbm`, `shared_hbm`, `sbuf` or `psum`.
        par_axis: Axis that maps to partitions (on-chip memories).
        name: For reports and messages.
        data: Values to adopt; fresh memory otherwise.
    """

    __slots__ = (
        "uid", "name", "memory", "dtype", "par_axis", "data", "written", "remaining", "scope", "tracker",
        "allocations", "pending", "accumulates", "mutable", "parameter", "was_written", "scope_depth", "lazy_zero",
    )  # fmt: skip

    def __init__(self, shape, dtype, memory, par_axis=0, name="", data=None):
        program = current()
        self.uid = new_uid()
        self.name = name or f"{memory}{self.uid}"
        self.memory = memory
        self.dtype = dtype
        self.par_axis = par_axis
        self.scope = program.scopes[-1]
        self.scope_depth = len(program.scopes)
        self.tracker = None
        self.pending = None
        self.accumulates = False
        self.mutable = True
        self.parameter = False
        self.was_written = data is not None
        self.lazy_zero = False
        self.allocations = {}
        if data is None:
            self.data = np.empty(shape, dtypes.storage(dtype))
            self.data.fill(np.nan if dtypes.is_float(dtype) else 0)
            # In HBM the flags name the program of the launch grid that wrote: two programs never share a location.
            self.written = np.zeros(shape, np.bool_ if memory in ON_CHIP else np.uint8)
            self.remaining = self.data.size
        else:
            self.data = data
            self.written = None
            self.remaining = 0

    def touch(self, position: int, blocks) -> None:
        """Note that instruction `position` uses the tile (or all tiles, blocks=None) of the buffer."""
        if self.memory not in ON_CHIP:
            return
        if blocks is None and self.par_axis:
            for block in np.ndindex(self.data.shape[: self.par_axis]):
                self.touch(position, block)
            return
        allocation = self.allocations.get(blocks)
        if allocation is None:
            free = self.data.shape[self.par_axis + 1 :]
            size = int(np.prod(free, dtype=np.int64)) * self.dtype.itemsize
            allocation = self.allocations[blocks] = Allocation(self.name, self.memory, size, position)
            current().trace.allocations.append(allocation)
        if allocation.last != position:
            allocation.last = position
            allocation.uses.append(position)

    def mark_written(self, view: "Tensor", where=None) -> None:
        """Note that a view's locations (those where `where` holds) now have values."""
        self.was_written = True
        flags = view.written
        if flags is None:
            return
        number = 1
        if self.memory not in ON_CHIP:
            number = current().number + 1
            if number > 1:
                self._check_owner(view, where, number)
        elif not self.remaining:
            return
        mark = flags.dtype.type(number)
        if view.fancy is not None:
            flags[view.selected(where)] = mark
            self.remaining = self.written.size - int(np.count_nonzero(self.written))
            return
        before = int(np.count_nonzero(flags))
        if where is None:
            flags[...] = number
            self.remaining -= flags.size - before
        else:
            np.copyto(flags, mark, where=where)
            self.remaining -= int(np.count_nonzero(flags)) - before

    def _check_owner(self, view: "Tensor", where, number: int) -> None:
        flags = view.written if view.fancy is None else view.written[view.fancy]
        flags = flags if where is None else flags[where]
        others = (flags != 0) & (flags != number)
        if others.any():
            raise LoopDependencyError(
                f"unexpected output dependencies: programs {int(flags[others][0]) - 1} and {number - 1} of the launch "
                f"grid write the same location of {view!r}"
            )


class Tensor(Arithmetic):
    """A view of a buffer: what NKI code calls a tensor or a tile.

    Args:
        buffer: The memory.
        data: numpy view of its values (of the base of a scattered access if `fancy` is given).
        written: numpy view of its flags, or None if all is known to be written.
        region: Where the view lies in the buffer.
        par_axis: Its partition axis.
        fancy: Index arrays for accesses that are no regular slice.
    """

    __slots__ = ("buffer", "data", "written", "region", "par_axis", "fancy", "shape", "dtype", "dynamic")
    __hash__ = object.__hash__
    # Python scalars and numpy arrays on the left must defer to the operators below.
    __array_ufunc__ = None

    def __init__(self, buffer, data, written, region, par_axis=0, fancy=None, shape=None, dtype=None):
        self.buffer = buffer
        self.data = data
        self.written = written
        self.region = region
        self.par_axis = par_axis
        self.fancy = fancy
        self.shape = data.shape if shape is None else shape
        self.dtype = buffer.dtype if dtype is None else dtype
        self.dynamic = None

    @classmethod
    def whole(cls, buffer: Buffer) -> "Tensor":
        """The view of all of a buffer."""
        return cls(buffer, buffer.data, buffer.written, Region.whole(buffer.data.shape), buffer.par_axis)

    def __repr__(self):
        dims = ", ".join(map(str, self.shape))
        return f"{self.dtype} {self.buffer.name}[{dims}] in {self.buffer.memory}"

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def tracker(self) -> Tracker:
        """Dependency record of the buffer."""
        if self.buffer.tracker is None:
            self.buffer.tracker = Tracker()
        return self.buffer.tracker

    def blocks(self):
        """Block coordinates of an on-chip view, or None if it spans several tiles."""
        return self.region.blocks(self.buffer.par_axis)

    def values(self, what: str, where=None) -> np.ndarray:
        """Read the view.

        Args:
            what: Instruction and operand, for the message.
            where: Positions that are used (a mask); the others may be unwritten.

        Raises:
            UninitializedReadError: If a used position was never written.
        """
        if self.buffer.remaining:
            flags = self.written if self.fancy is None else self.written[self.fancy]
            if flags is not None and not (flags.all() if where is None else (flags.astype(bool) | ~where).all()):
                missing = int(flags.size - np.count_nonzero(flags))
                raise UninitializedReadError(
                    f"{what} reads {missing} of {flags.size} elements of {self!r} that no instruction wrote"
                )
        return self.data if self.fancy is None else self.data[self.fancy]

    def selected(self, where=None) -> tuple:
        """Index arrays of a scattered access, at the positions where a mask holds."""
        if where is None:
            return self.fancy
        return tuple(np.broadcast_to(axis, self.shape)[where] for axis in self.fancy)

    def assign(self, values, where=None) -> None:
        """Write rounded values (and the written flags) into the view."""
        if self.fancy is not None:
            # Masked-out positions may be clipped onto used ones, so they must not be written at all.
            self.data[self.selected(where)] = values if where is None else np.broadcast_to(values, self.shape)[where]
        elif where is None:
            self.data[...] = values
        else:
            np.copyto(self.data, values, where=where)
        self.buffer.mark_written(self, where)

    def __getitem__(self, key):
        from .indexing import index_tensor

        return index_tensor(self, key)

    def __setitem__(self, key, value):
        from .assignment import assign

        assign(self[key], value)

    def __iter__(self):
        raise NkiError(f"{self!r} cannot be iterated; index it with a loop of nl.affine_range")

    def __bool__(self):
        raise ControlFlowError(f"control flow depending on tensor values is not supported ({self!r})")

    def reshape(self, shape):
        """View with another shape; on chip the partition axis must keep its size and stay first."""
        shape = tuple(shape) if not isinstance(shape, int) else (shape,)
        if self.buffer.memory in ON_CHIP and (self.par_axis != 0 or shape[0] != self.shape[0]):
            raise ShapeError(f"reshape of {self!r} to {shape} would move data between partitions")
        data = self.data.reshape(shape)
        if self.fancy is not None or not np.shares_memory(data, self.data):
            raise ShapeError(
                f"reshape of {self!r} to {shape} needs a copy; reshape the whole tensor before indexing it"
            )
        written = None if self.written is None else self.written.reshape(shape)
        return Tensor(self.buffer, data, written, Region.opaque(self.region, shape), self.par_axis)

    def assert_shape(self, shape):
        """Return the tensor if it has this shape."""
        if tuple(shape) != self.shape:
            raise ShapeError(f"{self!r} does not have the expected shape {tuple(shape)}")
        return self
