# SPDX-License-Identifier: Apache-2.0
"""Index makers, loop ranges and the launch grid of `nki.language`."""

from .._frontend.grid import CoreDim, SpmdDim
from .._frontend.loops import affine_range, sequential_range, static_range
from .._machine.errors import IndexingError, ShapeError
from .._memory.context import current
from .._memory.index import Index, IndexArray
from .._memory.indexing import DynamicSlice


def ds(start, size):
    """A slice [start, start + size) whose start may depend on loop variables."""
    if not isinstance(size, int):
        raise IndexingError(f"nl.ds: the size must be a compile-time integer, got {size!r}")
    return DynamicSlice(start, size)


def arange(*args):
    """Positions 0..stop-1 or start..stop-1 as an index; place its axis with `[:, None]`."""
    start, stop = (0, args[0]) if len(args) == 1 else args[:2]
    if not isinstance(start, int) or not isinstance(stop, int):
        raise ShapeError(f"nl.arange: bounds must be compile-time integers, got {args}")
    return IndexArray((stop - start,), start, {0: 1})


class _MeshGrid:
    """`nl.mgrid[0:p, 0:f]`: one dense index array for each axis."""

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        shape = tuple(k.stop - (k.start or 0) for k in key)
        grids = [IndexArray(shape, k.start or 0, {axis: 1}) for axis, k in enumerate(key)]
        return MeshGrid(grids)


class MeshGrid(tuple):
    """The arrays of one mgrid; `.p` is the first (partition) axis, `.x`, `.y` ... the free ones."""

    @property
    def p(self):
        """Index of the partition axis."""
        return self[0]

    @property
    def x(self):
        """Index of the first free axis."""
        return self[1]

    @property
    def y(self):
        """Index of the second free axis."""
        return self[2]


mgrid = _MeshGrid()
nc = CoreDim
spmd_dim = SpmdDim


def program_id(axis):
    """Position of this program along a grid axis."""
    program = current()
    if axis >= len(program.grid):
        if program.grid:
            raise ShapeError(f"nl.program_id({axis}): the launch grid has {len(program.grid)} axes")
        return Index(0)
    return Index(program.ids[axis])


def num_programs(axes=None):
    """Size of the launch grid, in all or along some axes."""
    grid = current().grid
    chosen = range(len(grid)) if axes is None else (axes,) if isinstance(axes, int) else axes
    total = 1
    for axis in chosen:
        total *= grid[axis] if axis < len(grid) else 1
    return total


def program_ndim():
    """Number of axes of the launch grid."""
    return len(current().grid)


__all__ = [
    "affine_range",
    "arange",
    "ds",
    "mgrid",
    "nc",
    "num_programs",
    "program_id",
    "program_ndim",
    "sequential_range",
    "spmd_dim",
    "static_range",
]
