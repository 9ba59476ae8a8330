# SPDX-License-Identifier: Apache-2.0
"""Symbolic indices: loop variables, `nl.arange` / `nl.mgrid` axes and the predicates made from them.

The compiler traces a loop body once with a symbolic loop variable. The simulator really iterates, so an `Index` also
knows its value, but it shows it to tensor indexing and masks alone: asking for it in any other way (`int(i)`,
`bool(i > 0)`, `range(i)`, `a[i]` of a Python list) is refused, because the compiled kernel would not see it either.
An index array holds `offset + sum(coefficient * position along an axis)`.
"""

import numpy as np

from .._machine.errors import ControlFlowError, IndexingError, MaskError


def _refuse(index, use: str):
    raise ControlFlowError(
        f"{use} of a traced index ({index!r}): loop bodies are traced once, so the value is unknown; "
        "use nl.static_range for a compile-time integer, or mask= / an if statement on an affine comparison"
    )


def _compare(left, operator: str, right):
    from .predicate import compare

    return compare(left, operator, right)


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
        return _compare(self, "<", other)

    def __le__(self, other):
        return _compare(self, "<=", other)

    def __gt__(self, other):
        return _compare(self, ">", other)

    def __ge__(self, other):
        return _compare(self, ">=", other)

    def __eq__(self, other):
        return _compare(self, "==", other)

    def __ne__(self, other):
        return ~_compare(self, "==", other)

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
