# SPDX-License-Identifier: Apache-2.0
"""Predicates: comparisons of affine index expressions, for masks, `nisa.affine_select` and if statements of kernels.

A mask is one comparison or several joined by `&` (SDK 2.26 `nki.api.shared.rst`); if statements also take `|` and `~`.
Python's and / or / not ask for a truth value, which does not exist while a loop body is traced.
"""

import numpy as np

from .._machine.errors import ControlFlowError, MaskError
from .index import Index, IndexArray


_OPERATORS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal}


class Predicate:
    """One comparison of affine expressions, or several joined by `&` (masks) or also `|` and `~` (if statements).

    Args:
        terms: Pairs of (affine difference from zero, operator); all must hold.
        values: The result in this iteration: a bool, or an array of them.
        single: Whether it is one comparison (what `nisa.affine_select` needs).
        conjunctive: Whether it may be a mask.
    """

    __slots__ = ("values", "single", "conjunctive", "affine")
    __hash__ = object.__hash__

    def __init__(self, values, single=True, conjunctive=True, affine=True):
        self.values = values
        self.single = single
        self.conjunctive = conjunctive
        self.affine = affine

    @property
    def scalar(self) -> bool:
        """Whether no arange or mgrid axis is involved."""
        return not isinstance(self.values, np.ndarray)

    def __and__(self, other):
        if isinstance(other, (bool, np.bool_)):
            return self if other else Predicate(False if self.scalar else np.zeros_like(self.values), False)
        if not isinstance(other, Predicate):
            return NotImplemented
        return Predicate(
            self.values & other.values,
            single=False,
            conjunctive=self.conjunctive and other.conjunctive,
            affine=self.affine and other.affine,
        )

    __rand__ = __and__

    def __or__(self, other):
        values = other.values if isinstance(other, Predicate) else bool(other)
        return Predicate(self.values | values, single=False, conjunctive=False, affine=self.affine)

    __ror__ = __or__

    def __invert__(self):
        values = (not self.values) if self.scalar else ~self.values
        return Predicate(values, self.single, self.conjunctive and self.single, self.affine)

    def __bool__(self):
        # Only `if` statements of a kernel are understood by the tracer, and they do not come through here.
        from .context import current

        if not self.scalar:
            raise ControlFlowError("control flow depending on nl.arange or nl.mgrid is not supported; use mask=")
        current().relax(
            "traced_bool",
            ControlFlowError,
            "truth value of a comparison of traced indices (and / or / not / assert / min / max, or an if outside a "
            "nki.jit function): the loop body is traced once; use & | ~ in an if statement of the kernel",
        )
        return bool(self.values)


def compare(left, operator: str, right) -> Predicate:
    """Build the predicate `left operator right` of affine expressions and integers."""
    if not isinstance(right, (Index, IndexArray, int, np.integer)):
        raise MaskError(f"{left!r} {operator} {right!r}: masks compare affine expressions of indices and constants")
    affine = left.affine and getattr(right, "affine", True)
    values = left.values if isinstance(left, IndexArray) else left.value
    other = right.values if isinstance(right, IndexArray) else right.value if isinstance(right, Index) else right
    result = _OPERATORS[operator](values, other)
    return Predicate(result if isinstance(result, np.ndarray) else bool(result), affine=affine)


def mask_values(mask, instruction: str) -> np.ndarray | bool:
    """Check and evaluate a `mask=` argument.

    Raises:
        MaskError: If it is not an affine comparison, or comparisons joined by something else than `&`.
    """
    if isinstance(mask, (bool, np.bool_)):
        return bool(mask)
    if not isinstance(mask, Predicate):
        raise MaskError(
            f"{instruction}: mask must be a comparison of affine index expressions (joined by &), got {type(mask)}"
        )
    if not mask.conjunctive or not mask.affine:
        raise MaskError(f"{instruction}: mask must be affine comparisons joined by & alone (no |, ~, //, %)")
    return mask.values
