# SPDX-License-Identifier: Apache-2.0
"""Which part of a buffer an access touches, and who touched it before.

A region is one (start, stop, step) for each axis of the buffer. Each buffer keeps one entry for every distinct region
that was accessed, linked to the entries it overlaps, so that finding the instructions an access depends on costs a few
dictionary operations. The same entries show loop-carried dependencies of affine loops.
"""

from .._machine.errors import LoopDependencyError


def _overlap(first, second) -> bool:
    for (lo_a, hi_a, step_a), (lo_b, hi_b, step_b) in zip(first, second):
        if hi_a <= lo_b or hi_b <= lo_a:
            return False
        if step_a == step_b and step_a > 1 and (lo_a - lo_b) % step_a:
            return False
    return True


class Region:
    """Where a view lies in its buffer.

    Args:
        box: (start, stop, step) of every axis of the buffer.
        axes: For every axis of the view, the buffer axis it runs along; None for an inserted axis.
        frame: Distinguishes coordinate systems: a reshaped view has one of its own.
    """

    __slots__ = ("box", "axes", "frame")

    def __init__(self, box, axes, frame=None):
        self.box = box
        self.axes = axes
        self.frame = frame

    @classmethod
    def whole(cls, shape):
        """All of a buffer of this shape."""
        return cls(tuple((0, size, 1) for size in shape), tuple(range(len(shape))))

    @classmethod
    def opaque(cls, parent, shape):
        """All of a reshaped view: a new coordinate system, which overlaps everything of the others."""
        frame = (parent.frame, parent.box, tuple(shape))
        return cls(tuple((0, size, 1) for size in shape), tuple(range(len(shape))), frame)

    def blocks(self, par_axis: int):
        """Block coordinates before the partition axis, or None if several blocks are covered."""
        if not par_axis:
            return ()
        if self.frame is not None or any(hi - lo != 1 for lo, hi, _ in self.box[:par_axis]):
            return None
        return tuple(lo for lo, _, _ in self.box[:par_axis])

    def key(self):
        """What identifies the region within its buffer."""
        return self.box if self.frame is None else (self.frame, self.box)


class _Entry:
    __slots__ = ("box", "frame", "writer", "write_path", "accumulated", "readers", "overlaps")

    def __init__(self, box, frame):
        self.box = box
        self.frame = frame
        self.writer = None
        self.write_path = ()
        self.accumulated = False
        self.readers = {}
        self.overlaps = [self]


class Tracker:
    """Last writers and readers of every region of one buffer."""

    __slots__ = ("entries",)

    def __init__(self):
        self.entries = {}

    def _entry(self, region: Region) -> _Entry:
        key = region.key()
        entry = self.entries.get(key)
        if entry is None:
            entry = _Entry(region.box, region.frame)
            for other in self.entries.values():
                if other.frame != entry.frame or _overlap(other.box, entry.box):
                    other.overlaps.append(entry)
                    entry.overlaps.append(other)
            self.entries[key] = entry
        return entry

    def read(self, region: Region, position: int, engine: str, depends: set) -> list[_Entry]:
        """Record a read and collect the writers it waits for.

        Returns:
            The entries it may have read from.
        """
        entry = self._entry(region)
        entry.readers[engine] = position
        for other in entry.overlaps:
            if other.writer is not None:
                depends.add(other.writer)
        return entry.overlaps

    def write(self, region: Region, position: int, depends: set, path, accumulated: bool) -> list[_Entry]:
        """Record a write and collect the readers and writers it waits for.

        Returns:
            The entries it overlaps, as they were before.
        """
        entry = self._entry(region)
        for other in entry.overlaps:
            if other.writer is not None:
                depends.add(other.writer)
            if other.readers:
                depends.update(other.readers.values())
        entry.writer = position
        entry.write_path = path
        entry.accumulated = accumulated
        entry.readers = {}
        depends.discard(position)
        return entry.overlaps

    def latest(self, region: Region) -> int:
        """Position of the last instruction that touched anything of a region; -1 if none did."""
        found = -1
        for other in self._entry(region).overlaps:
            for position in (other.writer, *other.readers.values()):
                if position is not None and position > found:
                    found = position
        return found

    def writers(self, region: Region) -> list[int]:
        """Positions of the instructions that last wrote anything of a region."""
        return [other.writer for other in self._entry(region).overlaps if other.writer is not None]

    def conflict(self, region: Region, path, depth: int, accumulated: bool):
        """Find an earlier write of another iteration of an affine loop that this access overlaps.

        Args:
            region: The access.
            path: Open affine loops as (uid, iteration, scopes open outside it).
            depth: Scopes that were open when the buffer was created; loops inside it count.
            accumulated: Whether the access is an associative accumulation, which may meet others of its kind.

        Returns:
            The number of the other iteration, or None.
        """
        for other in self._entry(region).overlaps:
            if other.writer is None or (accumulated and other.accumulated) or other.frame != region.frame:
                continue
            for mine, theirs in zip(path, other.write_path):
                if mine[0] != theirs[0]:
                    break
                if mine[1] != theirs[1] and mine[2] >= depth:
                    return theirs[1]
        return None


def loop_conflict(kind: str, tensor, iteration: int) -> LoopDependencyError:
    """The refusal of an access that conflicts with another iteration of an affine loop."""
    if kind == "write":
        return LoopDependencyError(
            f"unexpected output dependencies: iteration {iteration} of an affine_range writes a location of "
            f"{tensor!r} that this iteration writes too; index it by the loop variable or use nl.sequential_range"
        )
    return LoopDependencyError(
        f"loop-carried dependency: this iteration of an affine_range reads what iteration {iteration} wrote to "
        f"{tensor!r}; use nl.sequential_range (only associative accumulation with += is allowed)"
    )
