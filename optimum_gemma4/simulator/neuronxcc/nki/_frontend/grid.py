# SPDX-License-Identifier: Apache-2.0
"""Launch grids: plain sizes run one after the other on a core, `nl.nc(n)` spreads an axis over physical cores.

`kernel[2]`, `kernel[4, 2]`, `kernel[nl.nc(2)]`, `kernel[nl.nc(2) * 2, 2]` and `kernel[nl.spmd_dim(2, nl.nc(2))]` mean
what SDK 2.26 `nki.language.nc` and `spmd_dim` say.
"""

import itertools

import numpy as np


class CoreDim:
    """`nl.nc(n)`: a grid axis over physical cores.

    Args:
        size: Number of cores.
    """

    __slots__ = ("size",)

    def __init__(self, size: int):
        self.size = int(size)

    def __mul__(self, other):
        return SpmdDim(self, other)

    def __rmul__(self, other):
        return SpmdDim(other, self)


class SpmdDim:
    """`nl.spmd_dim(a, b)`: a grid axis of size a * b whose parts may lie on cores.

    Args:
        parts: Integers and `nl.nc` dimensions, the slowest first.
    """

    __slots__ = ("parts",)

    def __init__(self, *parts):
        self.parts = parts

    @property
    def size(self) -> int:
        """Programs along the axis."""
        return int(np.prod([p.size if isinstance(p, CoreDim) else p for p in self.parts]))


def _cores(axis) -> list[int]:
    """Core coordinate of every program along one axis."""
    parts = axis.parts if isinstance(axis, SpmdDim) else (axis,)
    ranges = [range(p.size) if isinstance(p, CoreDim) else range(int(p)) for p in parts]
    cores = []
    for position in itertools.product(*ranges):
        core = 0
        for part, coordinate in zip(parts, position):
            if isinstance(part, CoreDim):
                core = core * part.size + coordinate
        cores.append(core)
    return cores


def expand(grid) -> tuple[tuple[int, ...], list[tuple[tuple[int, ...], int]]]:
    """Sizes of a grid and its programs with the core each runs on.

    Args:
        grid: What stood in the brackets of `kernel[...]`; None for no grid.

    Returns:
        Sizes, and (program ids, core) in execution order.
    """
    axes = () if grid is None else grid if isinstance(grid, tuple) else (grid,)
    for axis in axes:
        if not isinstance(axis, (int, np.integer, CoreDim, SpmdDim)):
            raise ValueError(f"launch grid {axes} must consist of integers, nl.nc(n) and nl.spmd_dim(...)")
    sizes = tuple(axis.size if isinstance(axis, (CoreDim, SpmdDim)) else int(axis) for axis in axes)
    core_axes = [_cores(axis) for axis in axes]
    core_counts = [max(cores) + 1 for cores in core_axes]
    programs = []
    for ids in itertools.product(*(range(size) for size in sizes)):
        core = 0
        for axis, position in enumerate(ids):
            core = core * core_counts[axis] + core_axes[axis][position]
        programs.append((ids, core))
    return sizes, programs
