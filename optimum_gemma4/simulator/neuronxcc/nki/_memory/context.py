# SPDX-License-Identifier: Apache-2.0
"""State of one running kernel program: its core, its place in the grid, open scopes and loops.

One `Program` is one point of the launch grid. A scope is an iteration of a traced loop or the body of an if
statement; a tensor belongs to the scope it was created in and dies with it (SDK 2.26 `nki.errors.rst`,
err_local_variable_used_out_of_scope).
"""

import itertools
from contextlib import contextmanager

from .._machine.errors import OutsideKernelError
from .._machine.hardware import Generation
from .._profile.trace import Trace


# Rules that third-party kernels are known to break and that a run may relax; each use is counted in the report.
RELAXATIONS = {
    "traced_bool": "Python and / or / not on comparisons of traced indices, evaluated with the iteration's value",
    "gpsimd_psum": "a GpSimd instruction reads PSUM: the copy to SBUF that the compiler would add is inserted",
    "activation_range": "activation inputs outside the documented valid range",
    "psum_start": "a matmul accumulates into PSUM that neither a matmul nor nl.zeros wrote: it starts its group",
    "affine_rewrite": "iterations of an affine_range that write one location or read what another one wrote",
}
_uids = itertools.count(1)


class Program:
    """One kernel program while it runs.

    Args:
        generation: The NeuronCore it runs on.
        grid: Sizes of the launch grid.
        ids: Its position in the grid.
        relaxed: Names of `RELAXATIONS` that are allowed.
        trace: Where its instructions are recorded.
        outputs_are_arguments: Whether stores to parameters define outputs (the calling convention of `nki_jit`).
    """

    def __init__(
        self,
        generation: Generation,
        grid: tuple[int, ...] = (),
        ids: tuple[int, ...] = (),
        relaxed: frozenset[str] = frozenset(),
        trace: Trace | None = None,
        outputs_are_arguments: bool = False,
    ):
        unknown = set(relaxed) - set(RELAXATIONS)
        if unknown:
            raise ValueError(f"unknown relaxations {sorted(unknown)}; expected some of {sorted(RELAXATIONS)}")
        self.generation = generation
        self.grid = grid
        self.ids = ids
        self.relaxed = relaxed
        self.trace = trace if trace is not None else Trace()
        self.outputs_are_arguments = outputs_are_arguments
        self.scopes: list[int] = [0]
        self.open_scopes: set[int] = {0}
        # (uid, iteration) of every open affine loop, with the number of scopes that were open when it began.
        self.affine_path: tuple[tuple[int, int, int], ...] = ()
        self.depth = 0
        # Buffers in shared_hbm, in order of creation: the programs of a launch see the same ones.
        self.shared: list = []
        self.shared_created = 0
        self.number = 0
        self.scalar_registers = None
        self.vector_registers = None

    def enter_scope(self) -> int:
        """Open a scope and return its id."""
        uid = next(_uids)
        self.scopes.append(uid)
        self.open_scopes.add(uid)
        return uid

    def leave_scopes(self, length: int) -> None:
        """Close scopes until `length` remain (also those that a break or an error left open)."""
        while len(self.scopes) > length:
            self.open_scopes.discard(self.scopes.pop())

    def relax(self, rule: str, error: type[Exception], message: str) -> None:
        """Refuse, unless this run relaxes the rule; then count it.

        Raises:
            error: With `message`, and how to relax the rule.
        """
        if rule not in self.relaxed:
            raise error(f"{message} [rule {rule!r}]")
        self.trace.relaxed[rule] = self.trace.relaxed.get(rule, 0) + 1


_programs: list[Program] = []


def current() -> Program:
    """The running program.

    Raises:
        OutsideKernelError: If no kernel runs.
    """
    if not _programs:
        raise OutsideKernelError("calling an NKI API outside of an NKI kernel is not supported; decorate with nki.jit")
    return _programs[-1]


def running() -> bool:
    """Whether a kernel runs."""
    return bool(_programs)


@contextmanager
def run(program: Program):
    """Make a program the current one."""
    _programs.append(program)
    try:
        yield program
    finally:
        _programs.pop()


def new_uid() -> int:
    """A number that no other scope, loop or buffer has."""
    return next(_uids)
