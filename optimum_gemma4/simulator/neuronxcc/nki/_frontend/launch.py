# SPDX-License-Identifier: Apache-2.0
"""Kernels: what `nki.jit` returns, and how a launch runs.

A kernel called with numpy arrays or torch tensors runs every program of its grid and gives back arrays of the same
kind. Called from another kernel it is inlined. Parameters are immutable unless annotated `nt.mutable_tensor`; in the
convention of `nki_jit`, a preallocated output is an argument that the kernel stores to: `outputs_are_arguments`.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from .._machine.blas import single_thread
from .._machine.errors import MemorySpaceError, MutableNotReturnedError, NkiError, OutputNotWrittenError
from .._machine.hardware import generation
from .._memory.context import Program, current, run, running
from .._memory.tensor import HBM, Buffer, Tensor
from .._profile.liveness import check_capacity
from . import arrays
from .grid import expand
from .rewrite import rewrite


@dataclass
class Settings:
    """How kernels are simulated.

    Attributes:
        target: Platform that is modelled if the kernel does not name one.
        relaxed: Rules of `context.RELAXATIONS` that a kernel may break.
        observers: Called with a `Launch` after each run.
    """

    target: str = "trn2"
    relaxed: frozenset[str] = frozenset()
    observers: list = field(default_factory=list)


settings = Settings()


@dataclass
class Launch:
    """One finished launch.

    Attributes:
        kernel: Name of the kernel.
        target: Platform.
        programs: (program ids, core, trace) of every program.
        stored: The caller's tensors that were arguments and were written.
    """

    kernel: str
    target: str
    programs: list
    stored: list = field(default_factory=list)


@contextmanager
def simulate(target: str | None = None, relaxed=(), observer=None):
    """Change the settings for a while.

    Args:
        target: Platform, e.g. `trn1` or `trn2`.
        relaxed: Rules that kernels may break; each use is counted.
        observer: Called with every `Launch`.
    """
    before = (settings.target, settings.relaxed)
    if target is not None:
        settings.target = generation(target).name
    settings.relaxed = settings.relaxed | frozenset(relaxed)
    if observer is not None:
        settings.observers.append(observer)
    try:
        yield settings
    finally:
        settings.target, settings.relaxed = before
        if observer is not None:
            settings.observers.remove(observer)


@dataclass(frozen=True)
class GridKernel:
    """A kernel with its launch grid, `kernel[grid]`.

    Attributes:
        kernel: The kernel.
        grid: What stood in the brackets.
    """

    kernel: "Kernel"
    grid: object

    def __call__(self, *args, **kwargs):
        return self.kernel.launch(self.grid, args, kwargs)


class Kernel:
    """A function decorated with `nki.jit`.

    Args:
        function: The kernel.
        platform_target: Platform it is compiled for; the setting otherwise.
        outputs_are_arguments: See the module docstring.
    """

    def __init__(self, function, platform_target=None, outputs_are_arguments=False):
        self.function = function.function if isinstance(function, Kernel) else function
        self.platform_target = platform_target
        self.outputs_are_arguments = outputs_are_arguments
        self.__name__ = self.function.__name__
        self.__doc__ = self.function.__doc__
        self.__module__ = self.function.__module__
        self.__wrapped__ = self.function
        self._traced = None

    def __repr__(self):
        return f"<nki kernel {self.__name__}>"

    @property
    def traced(self):
        """The rewritten function."""
        if self._traced is None:
            self._traced = rewrite(self.function)
        return self._traced

    def __getitem__(self, grid):
        if running():
            raise NkiError(
                f"calling kernel with spmd grid ({self.__name__}[{grid}]) inside another kernel is not supported"
            )
        return GridKernel(self, grid)

    def __call__(self, *args, **kwargs):
        if not running():
            return self.launch(None, args, kwargs)
        program = current()
        program.depth += 1
        try:
            return self.traced(*args, **kwargs)
        finally:
            program.depth -= 1

    def launch(self, grid, args, kwargs):
        """Run every program of a grid on arrays and return the kernel's results as arrays.

        In a model that is being traced the call becomes a node of its graph.
        """
        kwargs.pop("kernel_name", None)
        if arrays.is_traced(args, kwargs):
            return arrays.record(self, grid, args, kwargs)
        target = generation(self.platform_target or settings.target)
        sizes, programs = expand(grid)
        cores = 1 + max(core for _, core in programs)
        if cores > (1 if target.version == 2 else 2):
            raise NkiError(
                f"kernel {self.__name__}: grid {sizes} spreads over {cores} cores, {target.name} allows fewer"
            )
        shared: list = []
        parameters: list = []
        launch = Launch(self.__name__, target.name, [])
        result = None
        for number, (ids, core) in enumerate(programs):
            program = Program(target, sizes, ids, settings.relaxed, None, self.outputs_are_arguments)
            program.shared, program.number = shared, number
            with run(program), single_thread(), np.errstate(all="ignore"):
                if not number:
                    names = arrays.bind(self.function, args, kwargs, lambda *a: _parameter(*a, parameters, program))
                for buffer in [b for b, _ in parameters] + shared:
                    buffer.tracker = None
                program.depth = 1
                result = self.traced(*names[0], **names[1])
            check_capacity(program.trace, target, self.__name__)
            launch.programs.append((ids, core, program.trace))
        values = self._results(result, parameters, shared, launch)
        for observer in settings.observers:
            observer(launch)
        return values

    def _results(self, result, parameters, shared, launch):
        returned = [] if result is None else list(result) if isinstance(result, (tuple, list)) else [result]
        for tensor in returned:
            if not isinstance(tensor, Tensor) or tensor.buffer.memory not in (HBM, "shared_hbm"):
                raise MemorySpaceError(f"kernel {self.__name__}: results must be HBM tensors, got {tensor!r}")
        written = [(b, original) for b, original in parameters if b.mutable and b.was_written and b.uid in _stored(b)]
        for buffer, original in written:
            if not self.outputs_are_arguments and all(t.buffer is not buffer for t in returned):
                raise MutableNotReturnedError(
                    f"kernel {self.__name__}: mutable kernel parameter {buffer.name!r} was written and is not returned"
                )
            arrays.write_back(buffer, original)
            launch.stored.append(original)
        for buffer in [t.buffer for t in returned] + list(shared):
            if not buffer.was_written:
                raise OutputNotWrittenError(f"kernel {self.__name__}: output {buffer.name!r} was never written to")
            if buffer.remaining:
                launch.programs[-1][2].unwritten[buffer.name] = buffer.remaining
        if not returned and not written:
            raise OutputNotWrittenError(f"kernel {self.__name__} writes no output: return a shared_hbm tensor")
        torch_results = any(arrays.is_torch(original) for _, original in parameters)
        values = [arrays.export(t, parameters, torch_results) for t in returned]
        if not values:
            return None
        return tuple(values) if isinstance(result, (tuple, list)) else values[0]


def _stored(buffer) -> tuple:
    """The buffer's uid if an instruction stored to it."""
    stored = buffer.tracker is not None and any(e.writer is not None for e in buffer.tracker.entries.values())
    return (buffer.uid,) if stored else ()


def _parameter(name, original, values, dtype, mutable, parameters, program) -> Tensor:
    buffer = Buffer(values.shape, dtype, HBM, 0, name, values)
    if mutable or program.outputs_are_arguments:
        buffer.written = np.zeros(values.shape, np.uint8)
    buffer.parameter, buffer.mutable, buffer.scope, buffer.was_written = True, mutable, 0, mutable
    parameters.append((buffer, original))
    return Tensor.whole(buffer)


__all__ = ["GridKernel", "Kernel", "Launch", "settings", "simulate"]
