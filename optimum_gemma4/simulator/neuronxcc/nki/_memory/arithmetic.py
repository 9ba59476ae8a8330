# SPDX-License-Identifier: Apache-2.0
"""Python operators of tensors (`a + b`, `-a`, `a < b`, `a += b`): the nki.language functions of the same name.

Operators do not broadcast along the partition axis (SDK 2.26 `nki_known_issues.rst`); the functions do.
"""

from .._machine.errors import PartitionMismatchError


def _call(name: str, *operands):
    from ..language import math

    shapes = [x.shape for x in operands if isinstance(x, Arithmetic)]
    if len(shapes) == 2 and shapes[0][0] != shapes[1][0]:
        raise PartitionMismatchError(
            f"partition dimension broadcasting is not supported on operators ({operands[0]!r} and {operands[1]!r}); "
            f"use nl.{name}"
        )
    return getattr(math, name)(*operands)


def _binary(name: str):
    def forward(self, other):
        return _call(name, self, other)

    def backward(self, other):
        return _call(name, other, self)

    return forward, backward


class Arithmetic:
    """Operators that `Tensor` inherits."""

    __slots__ = ()
    __add__, __radd__ = _binary("add")
    __sub__, __rsub__ = _binary("subtract")
    __mul__, __rmul__ = _binary("multiply")
    __truediv__, __rtruediv__ = _binary("divide")
    __pow__, __rpow__ = _binary("power")
    __mod__, __rmod__ = _binary("mod")
    __and__, __rand__ = _binary("bitwise_and")
    __or__, __ror__ = _binary("bitwise_or")
    __xor__, __rxor__ = _binary("bitwise_xor")
    __lshift__, __rlshift__ = _binary("left_shift")
    __rshift__, __rrshift__ = _binary("right_shift")
    __lt__, _ = _binary("less")
    __le__, _ = _binary("less_equal")
    __gt__, _ = _binary("greater")
    __ge__, _ = _binary("greater_equal")
    __eq__, _ = _binary("equal")
    __ne__, _ = _binary("not_equal")

    def __neg__(self):
        return _call("negative", self)

    def __invert__(self):
        return _call("invert", self)

    def __iadd__(self, other):
        from .assignment import accumulate

        return accumulate(self, other)

    def astype(self, dtype):
        """Copy with another type."""
        from ..isa.movement import tensor_copy

        return tensor_copy(self, dtype=dtype)

    def broadcast_to(self, shape):
        """Broadcast to a shape: a view along free axes, data movement along partitions."""
        from ..language import math

        return math.broadcast_to(self, shape=shape)

    def expand_dims(self, axis):
        """View with an axis of size one inserted after the last one."""
        from ..language import math

        return math.expand_dims(self, axis)
