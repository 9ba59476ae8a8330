# SPDX-License-Identifier: Apache-2.0
"""`neuronxcc.nki.typing`: annotations of kernel parameters."""

from ._memory.tensor import Tensor as _Tensor


class _Annotation(type):
    def __getitem__(cls, shape):
        return cls


class tensor(metaclass=_Annotation):
    """A tensor; `tensor[128, 512]` documents its shape."""


class mutable_tensor(metaclass=_Annotation):
    """A parameter that the kernel may store to and must return."""


Tensor = _Tensor
