# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.parallel_layers.parallel_state: process groups of ranks that share one process.

A group is a real `torch.distributed.ProcessGroup` object that knows its size and mesh but has no transport: the
collectives of `comm.py` never talk to it. `rank()` is 0 while tracing, as in the SDK, which traces rank 0 only; where
each rank runs in its own thread it is that thread's rank.
"""

import torch
import torch.distributed
from neuronx_distributed.utils.utils import hardware
from torch.distributed import ProcessGroup
from torch_neuronx.utils import get_platform_target

from optimum_gemma4.simulator.engine.fabric import current_rank, world_size


_TENSOR_MODEL_PARALLEL_GROUP: ProcessGroup | None = None
_DATA_PARALLEL_GROUP: ProcessGroup | None = None
_KV_SHARED_GROUP: ProcessGroup | None = None
_AOT_MODE = False


class SimulatedProcessGroup(ProcessGroup):
    """A process group without transport.

    Args:
        mesh: the rank lists of all groups of this kind; together they partition the world.
    """

    def __init__(self, mesh: list[list[int]]):
        super().__init__(0, len(mesh[0]))
        self._mesh = mesh

    def rank(self) -> int:
        """Rank within the group: 0 while tracing."""
        rank = current_rank()
        return next(group.index(rank) for group in self._mesh if rank in group)


def initialize_model_parallel(
    tensor_model_parallel_size: int = 1,
    pipeline_model_parallel_size: int = 1,
    context_parallel_size: int = 1,
    expert_model_parallel_size: int = 1,
    skip_collective_init: bool = False,
    lnc_size: int = 1,
    mesh_only: bool = False,
) -> None:
    """Makes the groups for a world whose size the caller (a trace, or `engine.ranks`) has set.

    Raises:
        RuntimeError: the sizes do not divide the world.
        NotImplementedError: pipeline, context or expert parallelism, which the simulator does not run.
    """
    global _TENSOR_MODEL_PARALLEL_GROUP, _DATA_PARALLEL_GROUP
    hardware(get_platform_target())
    world = world_size()
    tensor_model_parallel_size = min(tensor_model_parallel_size, world)
    others = {
        "pipeline_model_parallel_size": min(pipeline_model_parallel_size, world),
        "context_parallel_size": min(context_parallel_size, world),
        "expert_model_parallel_size": min(expert_model_parallel_size, world),
    }
    for name, size in others.items():
        if size != 1:
            raise NotImplementedError(f"{name}={size}: the simulator runs tensor parallelism only")
    if world % tensor_model_parallel_size != 0:
        raise RuntimeError(
            f"invalid implied data parallel degree: world_size ({world}) is not divisible by "
            f"tensor_model_parallel_size ({tensor_model_parallel_size})"
        )
    ranks = torch.arange(world).reshape(-1, tensor_model_parallel_size)
    if mesh_only:
        return ranks.tolist()
    _TENSOR_MODEL_PARALLEL_GROUP = SimulatedProcessGroup(ranks.tolist())
    _DATA_PARALLEL_GROUP = SimulatedProcessGroup(ranks.T.tolist())


def model_parallel_is_initialized() -> bool:
    """Whether the groups exist."""
    return _TENSOR_MODEL_PARALLEL_GROUP is not None and _DATA_PARALLEL_GROUP is not None


def destroy_model_parallel() -> None:
    """Forgets the groups."""
    global _TENSOR_MODEL_PARALLEL_GROUP, _DATA_PARALLEL_GROUP
    _TENSOR_MODEL_PARALLEL_GROUP = None
    _DATA_PARALLEL_GROUP = None


def snapshot() -> tuple:
    """The present groups and mode, for `restore`: a trace must not disturb the parallel state around it."""
    return _TENSOR_MODEL_PARALLEL_GROUP, _DATA_PARALLEL_GROUP, _AOT_MODE


def restore(state: tuple) -> None:
    """Puts back what `snapshot` returned."""
    global _TENSOR_MODEL_PARALLEL_GROUP, _DATA_PARALLEL_GROUP, _AOT_MODE
    _TENSOR_MODEL_PARALLEL_GROUP, _DATA_PARALLEL_GROUP, _AOT_MODE = state


def get_tensor_model_parallel_group(as_list: bool = False) -> ProcessGroup | list[list[int]]:
    """The tensor-parallel group, or its mesh."""
    assert _TENSOR_MODEL_PARALLEL_GROUP, "intra_layer_model parallel group is not initialized"
    return _TENSOR_MODEL_PARALLEL_GROUP._mesh if as_list else _TENSOR_MODEL_PARALLEL_GROUP


def get_tensor_model_parallel_replica_groups() -> list[list[int]]:
    """The mesh of the tensor-parallel groups."""
    return get_tensor_model_parallel_group(as_list=True)


def get_tensor_model_parallel_size() -> int:
    """Number of tensor-parallel ranks."""
    return get_tensor_model_parallel_group().size()


def get_tensor_model_parallel_rank() -> int:
    """Tensor-parallel rank: 0 while tracing, and baked into the graph as such."""
    return get_tensor_model_parallel_group().rank()


def get_data_parallel_group(as_list: bool = False) -> ProcessGroup | list[list[int]]:
    """The data-parallel group, or its mesh."""
    assert _DATA_PARALLEL_GROUP, "data parallel group is not initialized"
    return _DATA_PARALLEL_GROUP._mesh if as_list else _DATA_PARALLEL_GROUP


def get_kv_shared_group(as_list: bool = False) -> ProcessGroup | list[list[int]]:
    """The group of ranks that share a KV head, which flash decoding would have made: not simulated."""
    assert _KV_SHARED_GROUP, "kv_shared parallel group is not initialized"
    return _KV_SHARED_GROUP._mesh if as_list else _KV_SHARED_GROUP


def set_aot_mode(mode: bool) -> None:
    """Shape-only tracing: layers skip the initialisation of their weights."""
    global _AOT_MODE
    _AOT_MODE = mode


def get_aot_mode() -> bool:
    """Whether layers are made for tracing only."""
    return _AOT_MODE


def get_pipeline_model_parallel_size() -> int:
    """One stage: the simulator has no pipeline parallelism."""
    return 1


def get_pipeline_model_parallel_rank() -> int:
    """The only stage."""
    return 0


def get_data_parallel_rank() -> int:
    """The only replica."""
    return 0
