# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.parallel_layers.comm: the collectives, as operators of the simulator."""

import torch
from torch.distributed import ProcessGroup

from optimum_gemma4.simulator.engine import operators  # noqa: F401 (defines the operators)


def _flat(group: ProcessGroup | list[list[int]]) -> tuple[list[int], int]:
    mesh = group if isinstance(group, list) else group._mesh
    return [rank for ranks in mesh for rank in ranks], len(mesh[0])


def all_reduce(reduction: str, tensor: torch.Tensor, groups: ProcessGroup | list[list[int]]) -> torch.Tensor:
    """Reduces over the group; the caller must not use `tensor` afterwards (the SDK reduces it in place)."""
    return torch.ops.optimum_gemma4_simulator.all_reduce(tensor, reduction, *_flat(groups))


def all_gather(tensor: torch.Tensor, dim: int, groups: ProcessGroup | list[list[int]]) -> torch.Tensor:
    """Concatenates the ranks' tensors along `dim`."""
    return torch.ops.optimum_gemma4_simulator.all_gather(tensor, dim, *_flat(groups))


def reduce_scatter(
    reduction: str, tensor: torch.Tensor, dim: int, groups: ProcessGroup | list[list[int]]
) -> torch.Tensor:
    """Reduces over the group and keeps the rank's own part along `dim`."""
    return torch.ops.optimum_gemma4_simulator.reduce_scatter(tensor, reduction, dim, *_flat(groups))
