# SPDX-License-Identifier: Apache-2.0
"""Loop ranges: affine_range, sequential_range and static_range.

A traced range yields `Index` objects and opens a scope for every iteration; the compiler traces its body once. The
simulator runs every iteration and refuses what one tracing would get wrong: Python variables that change from one
iteration to the next, tensors that survive an iteration, and (affine_range) iterations that depend on each other.
A Python `range` in a kernel is a sequential_range (SDK 2.26 `nki.language.sequential_range`); static_range unrolls.
"""

import sys

from .._machine.errors import ControlFlowError
from .._memory.context import current, new_uid
from .._memory.index import Index


def _bounds(args, name: str) -> range:
    for value in args:
        if isinstance(value, Index) or not isinstance(value, int):
            raise ControlFlowError(f"nl.{name}: bounds must be compile-time integers, got {value!r}")
    return range(*args)


class TracedRange:
    """A range whose loop body is traced once.

    Args:
        steps: The iterations.
        affine: Whether iterations are declared independent.
    """

    __slots__ = ("steps", "affine", "carried")

    def __init__(self, steps: range, affine: bool, carried: tuple[str, ...] = ()):
        self.steps = steps
        self.affine = affine
        self.carried = carried

    def __iter__(self):
        if not self.steps:
            raise ControlFlowError(
                f"a traced loop over {self.steps} has no iterations, but its body is traced; guard it by a Python if"
            )
        return _Iterator(self)


_SIMPLE = (int, float, bool, str, type(None))


def _snapshot(frame, names):
    values = frame.f_locals
    found = {}
    for name in names:
        value = values.get(name)
        if isinstance(value, Index):
            found[name] = ("index", value.value)
        elif isinstance(value, _SIMPLE):
            found[name] = value
        elif isinstance(value, (list, dict, set)):
            found[name] = len(value)
    return found


class _Iterator:
    __slots__ = ("program", "values", "depth", "uid", "outer", "affine", "carried", "state")

    def __init__(self, traced: TracedRange):
        self.program = current()
        self.values = iter(traced.steps)
        self.depth = len(self.program.scopes)
        self.uid = new_uid()
        self.outer = self.program.affine_path
        self.affine = traced.affine
        self.carried = traced.carried
        self.state = None

    def __iter__(self):
        return self

    def __next__(self):
        program = self.program
        program.leave_scopes(self.depth)
        program.affine_path = self.outer
        if self.carried:
            self._check(sys._getframe(1))
        step = next(self.values)
        program.enter_scope()
        if self.affine:
            program.affine_path = self.outer + ((self.uid, step, self.depth),)
        return Index(step)

    def _check(self, frame) -> None:
        """Refuse Python variables that one iteration leaves changed for the next."""
        now = _snapshot(frame, self.carried)
        if self.state is not None:
            changed = [name for name, value in now.items() if name in self.state and self.state[name] != value]
            if changed:
                raise ControlFlowError(
                    f"Python variables {changed} change between iterations of a traced loop (line {frame.f_lineno}); "
                    "the body is traced once, so every iteration would see the first value: compute them from the "
                    "loop index, or use nl.static_range"
                )
        self.state = now


def affine_range(*args, **kwargs):
    """Iterations without dependencies on each other, but for associative accumulation."""
    return TracedRange(_bounds(args, "affine_range"), affine=True)


def sequential_range(*args, **kwargs):
    """Iterations that run in order and may depend on each other."""
    return TracedRange(_bounds(args, "sequential_range"), affine=False)


def static_range(*args):
    """Compile-time integers: the loop is unrolled."""
    return _bounds(args, "static_range")


def loop(iterable, carried: tuple[str, ...]):
    """What a `for` statement of a kernel iterates over (called by rewritten code).

    Args:
        iterable: The value after `in`.
        carried: Local names that the body reads before it assigns them.
    """
    if isinstance(iterable, TracedRange):
        return TracedRange(iterable.steps, iterable.affine, carried)
    return iterable
