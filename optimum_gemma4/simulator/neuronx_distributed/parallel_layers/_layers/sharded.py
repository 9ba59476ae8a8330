# SPDX-License-Identifier: Apache-2.0
"""Making and initialising a rank's shard of a parameter, shared by the parallel layers."""

from collections.abc import Callable

import torch
from torch import nn

from ..parallel_state import get_aot_mode, get_tensor_model_parallel_rank, model_parallel_is_initialized
from ..utils import divide, set_tensor_model_parallel_attributes


def local_shard(
    full: torch.Tensor, partition_dim: int, per_partition_size: int, stride: int, rank: int, world_size: int
) -> torch.Tensor:
    """Rank `rank`'s part of `full`: of every `world_size` consecutive chunks, `stride` times over, its own."""
    chunks = torch.split(full, divide(per_partition_size, stride), dim=partition_dim)[rank::world_size]
    return chunks[0] if stride == 1 else torch.cat(chunks, dim=partition_dim)


def new_sharded_parameter(
    shape: tuple[int, ...],
    partition_dim: int,
    num_partitions: int,
    initialize: Callable[[torch.Tensor], object],
    dtype: torch.dtype,
    device: torch.device | None,
    stride: int = 1,
    rank_ordering: list[int] | None = None,
) -> tuple[nn.Parameter, torch.Tensor | None]:
    """Makes the parameter of one rank.

    Off the meta device and outside of ahead-of-time tracing, the full fp32 weight is initialised first and the rank's
    part cut from it, so that the values do not depend on the tensor-parallel degree.

    Args:
        shape: the shape on one rank.

    Returns:
        The parameter, with the sharding attributes set, and the full weight if there was one.
    """
    parameter = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
    set_tensor_model_parallel_attributes(
        parameter, True, partition_dim, stride, num_partitions=num_partitions, rank_ordering=rank_ordering
    )
    if parameter.device.type == "meta" or get_aot_mode():
        return parameter, None
    full_shape = list(shape)
    full_shape[partition_dim] *= num_partitions
    with torch.no_grad():
        full = torch.empty(full_shape, dtype=torch.float32)
        initialize(full)
        full = full.to(dtype)
        rank = get_tensor_model_parallel_rank() if model_parallel_is_initialized() else 0
        parameter.copy_(local_shard(full, partition_dim, shape[partition_dim], stride, rank, num_partitions))
    return parameter, full
