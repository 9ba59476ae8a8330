# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_xla.core.xla_model: reduction names, and the calls that mean nothing without a device."""

import torch


REDUCE_SUM = "sum"
REDUCE_MAX = "max"
REDUCE_MIN = "min"


def xla_device(n: int | None = None, devkind: str | None = None) -> torch.device:
    """The simulated device is the CPU."""
    return torch.device("cpu")


def mark_step(wait: bool = False) -> None:
    """Nothing is lazy in the simulator, so there is no step to cut."""
