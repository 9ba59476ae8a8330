# SPDX-License-Identifier: Apache-2.0
"""Symbolic indices: loop variables, `nl.arange` / `nl.mgrid` axes and the predicates made from them.

The compiler traces a loop body once with a symbolic loop variable. The simulator really iterates, so an `Index` also
knows its value, but it shows it to tensor indexing and masks alone: asking for it in any other way (`int(i)`,
`bool(i > 0)`, `range(i)`, `a[i]` of a Python list) is refused, because the compiled kernel would not see it either.
An index array holds `offset + sum(coefficient * position along an axis)`.
"""

import numpy as np

from .._machine.errors import ControlFlowError, IndexingError, MaskError


_OPERATORS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal}


def _refuse(index, use: str):
    raise ControlFlowError(
        f"{use} of a traced index ({index!r}): loop bodies are traced once, so the value is unknown; "
        "use nl.static_range for a compile-time integer, or mask= / an if statement on an affine comparison"
    )


class Index:
    """A scalar affine expression of loop variables and program ids.

    Args:
        value: What the expression is in this iteration.
        affine: False after `//` or `%`; such an index may address memory but cannot appear in a mask.
    """

    __slots__ = ("value", "affine")
    __hash__ = object.__hash__
    shape = ()

    def __init__(self, value: int, affine: bool = True):
        self.value = value
        self.affine = affine

    def __repr__(self):
        return f"Index(now {self.value})"

    def __add__(self, other):
        if isinstance(other, Index):
            return Index(self.value + other.value, self.affine and other.affine)
        if isinstance(other, (int, np.integer)):
            return Index(self.value + int(other), self.affine)
        return NotImplemented

    __radd__ = __add__

    def __neg__(self):
        return Index(-self.value, self.affine)

    def __sub__(self, other):
        if isinstance(other, (Index, int, np.integer)):
            return self + (-other)
        return NotImplemented

    def __rsub__(self, other):
        return (-self) + other

    def __mul__(self, other):
        if isinstance(other, (int, np.integer)):
            return Index(self.value * int(other), self.affine)
        if isinstance(other, Index):
            raise MaskError(f"product of two traced indices ({self!r} * {other!r}) is not affine")
        return NotImplemented

    __rmul__ = __mul__

    def __floordiv__(self, other):
        return Index(self.value // int(other), False)

    def __mod__(self, other):
        return Index(self.value % int(other), False)

    def __lt__(self, other):
        return compare(self, "<", other)

    def __le__(self, other):
        return compare(self, "<=", other)

    def __gt__(self, other):
        return compare(self, ">", other)

    def __ge__(self, other):
        return compare(self, ">=", other)

    def __eq__(self, other):
        return compare(self, "==", other)

    def __ne__(self, other):
        return ~compare(self, "==", other)

    def __bool__(self):
        _refuse(self, "truth value")

    def __int__(self):
        _refuse(self, "int()")

    def __index__(self):
        _refuse(self, "use as a Python integer")

    def __float__(self):
        _refuse(self, "float()")


class IndexArray:
    """An affine index with array axes, from `nl.arange`, `nl.mgrid` and arithmetic on them.

    Args:
        shape: Shape of the array; axes of size one are not used by it.
        offset: Constant part.
        coefficients: Axis number -> stride along that axis.
        affine: See `Index`.
    """

    __slots__ = ("shape", "offset", "coefficients", "affine", "_values")
    __hash__ = object.__hash__

    def __init__(self, shape, offset=0, coefficients=None, affine=True):
        self.shape = tuple(shape)
        self.offset = offset
        self.coefficients = coefficients or {}
        self.affine = affine
        self._values = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def values(self) -> np.ndarray:
        """The integers it stands for in this iteration."""
        if self._values is None:
            total = np.full((1,) * self.ndim, self.offset, dtype=np.int64)
            for axis, stride in self.coefficients.items():
                steps = [1] * self.ndim
                steps[axis] = self.shape[axis]
                total = total + stride * np.arange(self.shape[axis], dtype=np.int64).reshape(steps)
            self._values = np.broadcast_to(total, self.shape)
        return self._values

    def __repr__(self):
        return f"IndexArray(shape={self.shape}, offset={self.offset}, strides={self.coefficients})"

    def __getitem__(self, key):
        """`[:, None]` and the like place the axes; values cannot be picked."""
        key = key if isinstance(key, tuple) else (key,)
        kept = [k for k in key if k is not None]
        if any(k != slice(None) for k in kept) or len(kept) > self.ndim:
            raise IndexingError(f"index arrays take only ':' and None as indices, got {key}")
        key = key + (slice(None),) * (self.ndim - len(kept))
        shape, moved, axis = [], {}, 0
        for position, entry in enumerate(key):
            if entry is None:
                shape.append(1)
            else:
                moved[axis] = position
                shape.append(self.shape[axis])
                axis += 1
        return IndexArray(shape, self.offset, {moved[a]: c for a, c in self.coefficients.items()}, self.affine)

    def __setitem__(self, key, value):
        raise IndexingError(
            "an index or mask tensor does not support item assignment; make a tile of it with nisa.iota"
        )

    def _combine(self, other, sign):
        if isinstance(other, (int, np.integer)):
            return IndexArray(self.shape, self.offset + sign * int(other), self.coefficients, self.affine)
        if isinstance(other, Index):
            return IndexArray(
                self.shape, self.offset + sign * other.value, self.coefficients, self.affine and other.affine
            )
        if not isinstance(other, IndexArray):
            return NotImplemented
        shape = np.broadcast_shapes(self.shape, other.shape)
        coefficients = {a + len(shape) - self.ndim: c for a, c in self.coefficients.items()}
        for axis, stride in other.coefficients.items():
            axis += len(shape) - other.ndim
            coefficients[axis] = coefficients.get(axis, 0) + sign * stride
        return IndexArray(shape, self.offset + sign * other.offset, coefficients, self.affine and other.affine)

    def __add__(self, other):
        return self._combine(other, 1)

    __radd__ = __add__

    def __sub__(self, other):
        return self._combine(other, -1)

    def __rsub__(self, other):
        return (self * -1) + other

    def __neg__(self):
        return self * -1

    def __mul__(self, other):
        if isinstance(other, (int, np.integer)):
            scaled = {a: c * int(other) for a, c in self.coefficients.items()}
            return IndexArray(self.shape, self.offset * int(other), scaled, self.affine)
        if isinstance(other, (Index, IndexArray)):
            raise MaskError(f"product of two traced indices ({self!r} * {other!r}) is not affine")
        return NotImplemented

    __rmul__ = __mul__

    __lt__, __le__, __gt__ = Index.__lt__, Index.__le__, Index.__gt__
    __ge__, __eq__, __ne__ = Index.__ge__, Index.__eq__, Index.__ne__

    def __bool__(self):
        raise ControlFlowError(
            f"control flow depending on nl.arange or nl.mgrid is not supported ({self!r}); use mask="
        )


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
