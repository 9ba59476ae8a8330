# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.operators.argmax: argmax over a tensor that is sharded over the ranks.

Each rank finds its own maximum, the maxima and their positions are gathered, and the global position is that of the
best rank. Ties go to the lowest position, as in torch.
"""

import torch
from neuronx_distributed.parallel_layers.mappings import _gather_along_dim
from neuronx_distributed.parallel_layers.parallel_state import get_tensor_model_parallel_group
from torch.distributed import ProcessGroup
from torch_neuronx.xla_impl.ops import Argmax


def argmax(
    tensor: torch.Tensor,
    dim: int,
    gather_dim: int,
    keepdim: bool = False,
    process_group: ProcessGroup | None = None,
) -> torch.Tensor:
    """Position of the maximum along `dim` of the whole of `tensor`, which is sharded along `gather_dim`."""
    group = process_group or get_tensor_model_parallel_group()
    if group.size() == 1:
        return Argmax.apply(tensor, dim, keepdim)
    values, positions = torch.max(tensor, dim=dim, keepdim=True)
    values = _gather_along_dim(values, gather_dim, process_group=group)
    positions = _gather_along_dim(positions, gather_dim, process_group=group)
    if gather_dim == dim:
        shape = [1] * tensor.dim()
        shape[dim] = group.size()
        positions = positions + (torch.arange(group.size()) * tensor.shape[dim]).view(shape)
    best = torch.gather(positions, dim, Argmax.apply(values, dim=dim, keepdim=True))
    return best if keepdim else best.squeeze(dim)
