# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_neuronx.xla_impl.base: functions that build HLO, run as torch operations.

A function under `xla_hlo_call` receives HLO tensors and composes HLO instructions. Here an HLO tensor wraps a torch
tensor, and an instruction computes at once. Only the instructions that optimum-neuron uses exist: Constant,
DynamicUpdateSlice, Rng and the custom call of the layer boundary markers; any other name is an AttributeError.
"""

import functools
from collections.abc import Callable

import torch


_TYPE_NAMES = {
    "pred": torch.bool,
    "s8": torch.int8,
    "s16": torch.int16,
    "s32": torch.int32,
    "s64": torch.int64,
    "u8": torch.uint8,
    "u32": torch.int32,  # start indices only; torch has few operations on unsigned tensors
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
}
_UNIFORM = 1


class HloType:
    """An element type, with a shape once indexed: `f32`, `f32[2, 3]`."""

    def __init__(self, dtype: torch.dtype, sizes: tuple[int, ...] = ()):
        self._dtype = dtype
        self.sizes = sizes

    def __getitem__(self, sizes) -> "HloType":
        return HloType(self._dtype, tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,))

    def Constant(self, constant_value) -> "HloTensor":  # noqa: N802 (HLO's spelling)
        """A constant of this type and shape."""
        return HloTensor(torch.full(self.sizes, constant_value, dtype=self._dtype))

    def DynamicUpdateSlice(  # noqa: N802
        self, tensor: "HloTensor", update: "HloTensor", *starts: "HloTensor"
    ) -> "HloTensor":
        """`tensor` with `update` written at `starts`, which are clamped so that it fits."""
        positions = [start.torch_tensor for start in starts]
        return HloTensor(
            torch.ops.optimum_gemma4_simulator.dynamic_update_slice(
                tensor.torch_tensor, update.torch_tensor, positions
            )
        )

    def Rng(self, low: "HloTensor", high: "HloTensor", distribution: int) -> "HloTensor":  # noqa: N802
        """Uniform random numbers in [low, high)."""
        if distribution != _UNIFORM:
            raise NotImplementedError(f"Rng distribution {distribution}: only {_UNIFORM} (uniform) is simulated")
        low, high = low.torch_tensor, high.torch_tensor
        return HloTensor(torch.rand(self.sizes, dtype=self._dtype) * (high - low) + low)


class Scribe:
    """The HLO builder: element types by their HLO names."""

    def __getattr__(self, name: str) -> HloType:
        if name not in _TYPE_NAMES:
            raise AttributeError(f"the simulated HLO builder has no {name!r}")
        return HloType(_TYPE_NAMES[name])

    def tuple(self, *tensors: "HloTensor") -> "HloTuple":
        """A tuple of tensors."""
        return HloTuple(tensors)


class HloTensor:
    """A tensor of a function that builds HLO."""

    def __init__(self, tensor: torch.Tensor):
        self.torch_tensor = tensor
        self.scribe = Scribe()

    @property
    def dtype(self) -> HloType:
        """Its element type."""
        return HloType(self.torch_tensor.dtype)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.torch_tensor.shape)

    def CustomCall(self, *args: "HloTensor", custom_call_target: str) -> "HloTensor":  # noqa: N802
        """A layer boundary marker, which passes its argument through."""
        _check_marker(custom_call_target)
        return args[0]


class HloTuple(tuple):
    """Several tensors, as the type of a custom call with several results."""

    def CustomCall(self, *args: HloTensor, custom_call_target: str) -> "HloTuple":  # noqa: N802
        """A layer boundary marker, which passes its arguments through."""
        _check_marker(custom_call_target)
        return HloTuple(args)


def _check_marker(target: str) -> None:
    if not target.startswith("AwsNeuronModuleMarker"):
        raise NotImplementedError(f"custom call {target!r} is not simulated")


def _unwrap(value):
    if isinstance(value, HloTensor):
        return value.torch_tensor
    return tuple(_unwrap(v) for v in value) if isinstance(value, tuple) else value


def xla_hlo_call(function: Callable) -> Callable:
    """Makes a function on HLO tensors callable with torch tensors."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        return _unwrap(function(*(HloTensor(a) if isinstance(a, torch.Tensor) else a for a in args), **kwargs))

    return call
