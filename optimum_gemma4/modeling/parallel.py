# SPDX-License-Identifier: Apache-2.0
"""The one door to the SDK's parallel layers, rank and collectives; no other file of `modeling` imports the SDK.

Every constructor takes keyword arguments only where `neuronx_distributed` has changed positions between releases. No
layer is padded: `TextGeometry.check_tp` refuses a tensor parallel size that does not divide the model, because padded
vocabularies are masked wrongly by optimum-neuron 0.4.5 when it samples on the host.
"""

import torch
from neuronx_distributed.parallel_layers import parallel_state
from neuronx_distributed.parallel_layers.layers import (
    ColumnParallelLinear,
    ParallelEmbedding,
    RowParallelLinear,
    SPMDRank,
)
from neuronx_distributed.parallel_layers.mappings import _gather_along_dim


__all__ = ["column_parallel", "gather", "rank_util", "row_parallel", "sharded_embedding", "tensor_parallel_size"]


def tensor_parallel_size() -> int:
    """Number of ranks that the parallel layers built now are split over."""
    return parallel_state.get_tensor_model_parallel_size()


def column_parallel(in_features: int, out_features: int, dtype: torch.dtype, gather_output: bool = False):
    """Linear layer without bias, outputs split over the ranks: [.., in] -> [.., out / tp] ([.., out] gathered)."""
    return ColumnParallelLinear(in_features, out_features, bias=False, gather_output=gather_output, dtype=dtype)


def row_parallel(in_features: int, out_features: int, dtype: torch.dtype):
    """Linear layer without bias, its inputs split over the ranks: [.., in / tp] -> [.., out], the same on every rank.

    Partial sums are reduced in fp32: it keeps the error that of one matmul, and the cast makes the reduce's operand a
    tensor of its own (a reduce of a view is lost under torch_xla's functionalization).
    """
    return RowParallelLinear(
        in_features, out_features, bias=False, input_is_parallel=True, dtype=dtype, reduce_dtype=torch.float32
    )


def sharded_embedding(num_embeddings: int, embedding_dim: int, dtype: torch.dtype):
    """Embedding split along its features, gathered on output: no range of ids depends on the rank that traces."""
    return ParallelEmbedding(num_embeddings, embedding_dim, dtype=dtype, shard_across_embedding=True)


def rank_util(world_size: int) -> SPMDRank:
    """Module whose `get_rank()` is a tensor [1] int32 of the run, another on each rank, not of the trace."""
    return SPMDRank(world_size=world_size)


def gather(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """Concatenate the shards of every rank along `dim`."""
    return _gather_along_dim(tensor, dim)
