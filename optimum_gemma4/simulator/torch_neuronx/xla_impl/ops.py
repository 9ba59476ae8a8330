# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_neuronx.xla_impl.ops: RMS norm, top-k and argmax, NKI kernels, and HLO built by hand.

Each is plain torch on the CPU. `nki_jit()(kernel)[grid](...)` calls a kernel that stores its results to arguments:
one written in NKI, which runs as `engine/nki_operator.py` says, or one of the compiler's own that optimum-neuron uses,
which are torch functions here.
"""

from collections.abc import Callable

import torch
from neuronxcc.nki._frontend.launch import Kernel

from .base import xla_hlo_call  # noqa: F401


_STAND_INS = "neuronxcc.nki._private_kernels."


class RmsNorm:
    """x * rsqrt(mean(x^2) + eps) * weight along `dim`, in the dtype of x."""

    @staticmethod
    def apply(hidden_states: torch.Tensor, weight: torch.Tensor, eps: float, dim: int) -> torch.Tensor:
        variance = hidden_states.pow(2).mean(dim, keepdim=True)
        return hidden_states * torch.rsqrt(variance + eps) * weight


class TopK:
    """torch.topk, largest first."""

    @staticmethod
    def apply(tensor: torch.Tensor, k: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        values, indices = torch.topk(tensor, k, dim=dim)
        return values, indices


class Argmax:
    """torch.argmax."""

    @staticmethod
    def apply(tensor: torch.Tensor, dim: int, keepdim: bool = False) -> torch.Tensor:
        return torch.argmax(tensor, dim=dim, keepdim=keepdim)


class _StandIn:
    """A torch function in a compiler kernel's place; it has no use for a launch grid."""

    def __init__(self, kernel: Callable):
        self._kernel = kernel

    def __getitem__(self, grid) -> "_StandIn":
        return self

    def __call__(self, *args, **kwargs):
        return self._kernel(*args, **kwargs)


def nki_jit(**options) -> Callable[[Callable], Kernel | _StandIn]:
    """Decorator for a kernel that stores its results to arguments, of a traced model or called with tensors.

    Args:
        options: `platform_target`; compiler options are ignored.

    Returns:
        A decorator for a function written in NKI, or one that `nki.jit` decorated; the result takes a launch grid.
    """

    def decorate(kernel: Callable) -> Kernel | _StandIn:
        if kernel.__module__.startswith(_STAND_INS):
            return _StandIn(kernel)
        return Kernel(kernel, options.get("platform_target"), outputs_are_arguments=True)

    return decorate
