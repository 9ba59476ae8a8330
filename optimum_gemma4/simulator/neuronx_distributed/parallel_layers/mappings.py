# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.parallel_layers.mappings: moves between replicated and sharded tensors.

Forward only. Two properties of the SDK that a plain implementation would hide are kept: what depends on
`group.rank()` is baked as rank 0 into a trace (`_split_along_dim`, `scatter_to_*`), and an all-reduce of a view is
refused, because torch_xla 2.8.1 drops it silently. Each function names its group with `process_group`, the
tensor-parallel one by default.
"""

import torch
import torch_xla.core.xla_model as xm
from torch.distributed import ProcessGroup

from . import comm
from .parallel_state import get_tensor_model_parallel_group
from .utils import divide


def _group(process_group: ProcessGroup | None) -> ProcessGroup:
    return process_group if process_group is not None else get_tensor_model_parallel_group()


def _reduce(
    input_: torch.Tensor, computation: str = xm.REDUCE_SUM, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    group = _group(process_group)
    if group.size() == 1:
        return input_
    if input_._is_view():
        raise RuntimeError(
            "all-reduce of a view: the SDK reduces in place, and torch_xla 2.8.1 drops the reduction of a view from "
            f"the graph without a word. Reduce a tensor of its own (shape {tuple(input_.shape)}): .clone() it first."
        )
    return comm.all_reduce(computation, input_, group)


def _split_along_dim(
    input_: torch.Tensor, partition_dim: int, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    group = _group(process_group)
    if group.size() == 1:
        return input_
    size = divide(input_.shape[partition_dim], group.size())
    return input_.narrow(partition_dim, group.rank() * size, size).clone()


def _split_along_last_dim(input_: torch.Tensor, process_group: ProcessGroup | None = None) -> torch.Tensor:
    return _split_along_dim(input_, input_.dim() - 1, process_group)


def _split_along_first_dim(input_: torch.Tensor, process_group: ProcessGroup | None = None) -> torch.Tensor:
    return _split_along_dim(input_, 0, process_group)


def _gather_along_dim(
    x: torch.Tensor, partition_dim: int, process_group: ProcessGroup | None = None, tile_cc: bool = False
) -> torch.Tensor:
    group = _group(process_group)
    return x if group.size() == 1 else comm.all_gather(x, partition_dim, group)


def _gather_along_first_dim(x: torch.Tensor, process_group: ProcessGroup | None = None) -> torch.Tensor:
    return _gather_along_dim(x, 0, process_group)


def _gather_along_last_dim(x: torch.Tensor, process_group: ProcessGroup | None = None) -> torch.Tensor:
    return _gather_along_dim(x, x.dim() - 1, process_group)


def _reduce_scatter_along_dim(
    x: torch.Tensor,
    partition_dim: int,
    computation: str = xm.REDUCE_SUM,
    process_group: ProcessGroup | None = None,
    tile_cc: bool = False,
) -> torch.Tensor:
    group = _group(process_group)
    return x if group.size() == 1 else comm.reduce_scatter(computation, x, partition_dim, group)


def _reduce_scatter_along_first_dim(
    x: torch.Tensor, computation: str = xm.REDUCE_SUM, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    return _reduce_scatter_along_dim(x, 0, computation, process_group)


def _reduce_scatter_along_last_dim(
    x: torch.Tensor, computation: str = xm.REDUCE_SUM, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    return _reduce_scatter_along_dim(x, x.dim() - 1, computation, process_group)


def copy_to_tensor_model_parallel_region(
    input_: torch.Tensor, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    """The input itself: every rank has it already."""
    return input_


def reduce_from_tensor_model_parallel_region(
    input_: torch.Tensor, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    """Sum over the ranks; do not use `input_` afterwards."""
    return _reduce(input_, process_group=process_group)


def scatter_to_tensor_model_parallel_region(
    input_: torch.Tensor, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    """The rank's part of the last dimension (rank 0's, in a trace)."""
    return _split_along_last_dim(input_, process_group)


def gather_from_tensor_model_parallel_region(
    input_: torch.Tensor, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    """Concatenation of the ranks along the last dimension."""
    return _gather_along_last_dim(input_, process_group)


def gather_from_tensor_model_parallel_region_with_dim(
    input_: torch.Tensor, gather_dim: int, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    """Concatenation of the ranks along `gather_dim`."""
    return _gather_along_dim(input_, gather_dim, process_group)


def reduce_scatter_to_tensor_model_parallel_region_with_dim(
    input_: torch.Tensor, partition_dim: int, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    """The rank's part, along `partition_dim`, of the sum over the ranks."""
    return _reduce_scatter_along_dim(input_, partition_dim, process_group=process_group)


def scatter_to_sequence_parallel_region(
    input_: torch.Tensor, sequence_dimension: int = 0, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    """The rank's part of the sequence (rank 0's, in a trace)."""
    return _split_along_dim(input_, sequence_dimension, process_group)


def gather_from_sequence_parallel_region(
    input_: torch.Tensor,
    sequence_dimension: int = 0,
    to_model_parallel: bool = True,
    process_group: ProcessGroup | None = None,
    tile_cc: bool = False,
) -> torch.Tensor:
    """Concatenation of the ranks' parts of the sequence."""
    return _gather_along_dim(input_, sequence_dimension, process_group)


def reduce_scatter_to_sequence_parallel_region(
    input_: torch.Tensor,
    sequence_dimension: int = 0,
    process_group: ProcessGroup | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """The rank's part of the sequence of the sum over the ranks."""
    return _reduce_scatter_along_dim(input_, sequence_dimension, process_group=process_group)


def scatter_to_process_group_spmd(
    input_: torch.Tensor, partition_dim: int, rank: torch.Tensor, process_group: ProcessGroup | None = None
) -> torch.Tensor:
    """The part of `partition_dim` of the rank that the tensor `rank` holds: right in a trace on every rank."""
    size = _group(process_group).size()
    length = input_.size(partition_dim)
    assert length % size == 0, f"tensor dim to scatter ({length}) must be multiple of group size ({size})"
    part = length // size
    index = torch.arange(part, device=input_.device) + rank * part
    return torch.index_select(input_, partition_dim, index)
