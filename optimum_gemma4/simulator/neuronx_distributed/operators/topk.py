# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.operators.topk: top-k over a tensor that is sharded over the ranks.

Each rank keeps its own k best, these are gathered, and the k best of them are taken. On the device a large world does
this in stages, or a kernel does it; the result is that of one stage, which is what the simulator always runs.
"""

import torch
from neuronx_distributed.parallel_layers.mappings import _gather_along_dim
from neuronx_distributed.parallel_layers.parallel_state import get_tensor_model_parallel_group
from neuronx_distributed.utils.utils import hardware
from torch.distributed import ProcessGroup
from torch_neuronx.utils import get_platform_target
from torch_neuronx.xla_impl.ops import TopK


_STAGED_WORLD = {hardware.TRN1: (32, 2), hardware.TRN2: (64, 3)}


def _check_stages(stages: int, tp_degree: int) -> None:
    if stages <= 1:
        return
    target = hardware(get_platform_target())
    world, expected = _STAGED_WORLD[target]
    assert tp_degree == world, f"tp degree other than {world} is not supported got {tp_degree} on {target}"
    assert stages == expected, f"stages other than {expected} is not supported got {stages} on {target}"


def topk(
    tensor: torch.Tensor,
    k: int,
    dim: int,
    gather_dim: int,
    process_group: ProcessGroup | None = None,
    stages: int = 1,
    rank_id: torch.Tensor | None = None,
    use_topk_rotated_kernel: bool = False,
    lnc: int = 2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest along `dim` of the whole of `tensor`, which is sharded along `gather_dim`, and their positions.

    Raises:
        AssertionError: a number of stages that the hardware does not have for this number of ranks.
        RuntimeError: a rank has fewer than k values (later releases of the SDK take what there is).
    """
    group = process_group if process_group is not None else get_tensor_model_parallel_group()
    size = group.size()
    _check_stages(stages, size)
    if size == 1:
        return TopK.apply(tensor, k, dim=dim)
    values, positions = TopK.apply(tensor, k, dim=dim)
    values = _gather_along_dim(values, gather_dim, process_group=group)
    positions = _gather_along_dim(positions, gather_dim, process_group=group)
    if gather_dim == dim:
        shape = [1] * tensor.dim()
        shape[dim] = -1
        offsets = (torch.arange(size) * tensor.shape[dim]).repeat_interleave(k)
        positions = positions + offsets.view(shape)
    values, best = TopK.apply(values, k, dim=dim)
    return values, torch.gather(positions, dim, best)
