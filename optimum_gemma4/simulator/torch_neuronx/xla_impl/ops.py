# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_neuronx.xla_impl.ops: RMS norm, top-k and argmax, NKI kernels, and HLO built by hand.

Each is plain torch on the CPU. `nki_jit()(kernel)[grid](...)` calls the kernel: those of `neuronxcc.nki` that
optimum-neuron uses are torch functions in the simulator, which write into their output argument as the kernels do.
"""

from collections.abc import Callable

import torch

from .base import xla_hlo_call  # noqa: F401


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


class _LaunchableKernel:
    def __init__(self, kernel: Callable):
        self._kernel = kernel

    def __getitem__(self, grid) -> "_LaunchableKernel":
        return self

    def __call__(self, *args, **kwargs):
        return self._kernel(*args, **kwargs)


def nki_jit(**options) -> Callable[[Callable], _LaunchableKernel]:
    """Decorator that makes a kernel callable from a traced model, with or without a launch grid."""
    return _LaunchableKernel
