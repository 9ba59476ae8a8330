# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_xla.core.xla_model: reduction names, and the calls that mean nothing without a device."""

import torch

from optimum_gemma4.simulator.engine.fabric import TracingFabric, current_fabric


REDUCE_SUM = "sum"
REDUCE_MAX = "max"
REDUCE_MIN = "min"


def xla_device(n: int | None = None, devkind: str | None = None) -> torch.device:
    """The simulated device is the CPU."""
    return torch.device("cpu")


def is_xla_tensor(tensor: torch.Tensor) -> bool:
    """Whether the tensor belongs to a graph that is being recorded, which the SDK does on its XLA device."""
    return isinstance(current_fabric(), TracingFabric)


def mark_step(wait: bool = False) -> None:
    """Nothing is lazy in the simulator, so there is no step to cut."""
