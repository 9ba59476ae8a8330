# SPDX-License-Identifier: Apache-2.0
"""ParallelEmbedding, forward only, with the SDK's signature and errors.

Sharded over the vocabulary, each rank looks up the tokens of its own range and the results are summed. The range comes
from `group.rank()`, which a trace bakes in as rank 0, unless `use_spmd_rank` reads it from a parameter: only then does
a traced model give the right embedding on every rank. Outputs of dtypes other than fp32 become bf16 there.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torch_xla.core.xla_model as xm
from torch import nn
from torch.distributed import ProcessGroup

from .. import comm
from ..mappings import gather_from_tensor_model_parallel_region, reduce_scatter_to_sequence_parallel_region
from ..utils import EmbeddingUtility, divide, get_padding_length
from .base import BaseParallelLayer, parallel_group
from .sharded import new_sharded_parameter
from .spmd_rank import SPMDRank


class ParallelEmbedding(BaseParallelLayer):
    """Embedding with the vocabulary, or the embedding dimension, divided over the ranks.

    Args:
        shard_across_embedding: divide the embedding dimension (and gather it afterwards).
        pad: pad the divided dimension to a multiple of the ranks.
        use_spmd_rank: take the rank from the parameter `rank_util.rank`, which the checkpoint must hold.

    Raises:
        RuntimeError: `pad` while training.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        init_method: Callable[[Any], Any] = nn.init.normal_,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        shard_across_embedding: bool = False,
        pad: bool = False,
        sequence_parallel_enabled: bool = False,
        tensor_model_parallel_group: ProcessGroup | None = None,
        use_spmd_rank: bool = False,
        sequence_dimension: int | None = None,
        tile_cc: bool = False,
        rank_ordering: list[int] | None = None,
    ):
        super().__init__(device=device)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        self.tensor_model_parallel_group = parallel_group(tensor_model_parallel_group)
        self.tensor_model_parallel_size = world_size = self.tensor_model_parallel_group.size()
        self.shard_across_embedding = shard_across_embedding
        self.stride = 1
        self.pad = pad
        self.sequence_parallel_enabled = sequence_parallel_enabled
        self.sequence_dim = sequence_dimension
        self.tile_cc = tile_cc
        self.rank_util = SPMDRank(world_size) if use_spmd_rank else None
        self.rank_ordering = rank_ordering
        if pad:
            divided = self.embedding_dim if shard_across_embedding else self.num_embeddings
            self.pad_size = get_padding_length(divided, world_size)
        if shard_across_embedding:
            self._divide_embedding_dim(padding_idx)
        else:
            self._divide_vocabulary(padding_idx)
        self.init_method = init_method
        self.dtype = dtype
        self.weight, _ = new_sharded_parameter(
            (self.num_embeddings_per_partition, self.embedding_dim_per_partition),
            partition_dim=self.weight_partition_dim,
            num_partitions=world_size,
            initialize=init_method,
            dtype=dtype,
            device=None,  # the SDK puts the weight on the CPU, whatever `device` says
            rank_ordering=rank_ordering,
        )

    def _divide_embedding_dim(self, padding_idx: int | None) -> None:
        if self.pad:
            self.embedding_dim += self.pad_size
        self.num_embeddings_per_partition = self.num_embeddings
        self.embedding_dim_per_partition = divide(self.embedding_dim, self.tensor_model_parallel_size)
        self.padding_idx = padding_idx if padding_idx else None
        self.weight_partition_dim = 1

    def _divide_vocabulary(self, padding_idx: int | None) -> None:
        if self.pad:
            self.num_embeddings += self.pad_size
        self.start_index, self.end_index = EmbeddingUtility.range_from_global_vocab_size(
            self.num_embeddings, self.tensor_model_parallel_group.rank(), self.tensor_model_parallel_size
        )
        self.num_embeddings_per_partition = self.end_index - self.start_index
        self.embedding_dim_per_partition = self.embedding_dim
        own = padding_idx and self.start_index <= padding_idx < self.end_index
        self.padding_idx = padding_idx - self.start_index if own else None
        self.weight_partition_dim = 0

    def forward(self, input_: torch.Tensor) -> torch.Tensor:
        """Ids [...] -> embeddings [..., embedding_dim]."""
        self._check_pad_false_for_training()
        if not self.shard_across_embedding:
            return self._forward_shard_across_vocab(input_)
        output = gather_from_tensor_model_parallel_region(self._look_up(input_), self.tensor_model_parallel_group)
        if self.pad and self.pad_size > 0:
            output = torch.narrow(output, -1, 0, self.embedding_dim - self.pad_size)
        return output

    def _look_up(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(
            ids.long(),
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )

    def _forward_shard_across_vocab(self, input_: torch.Tensor) -> torch.Tensor:
        group = self.tensor_model_parallel_group
        if self.tensor_model_parallel_size == 1:
            output = self._look_up(input_)
        else:
            start, end = self.start_index, self.end_index
            if self.rank_util is not None:
                start = self.num_embeddings_per_partition * self.rank_util.get_rank()
                end = self.num_embeddings_per_partition * (self.rank_util.get_rank() + 1)
            own = (input_ >= start) & (input_ < end)
            output = self._look_up((input_ - start) * own.long())
            mask_dtype = torch.float32 if self.dtype == torch.float32 else torch.bfloat16
            output = (output * own.unsqueeze(-1).to(mask_dtype)).to(mask_dtype)
        if self.sequence_parallel_enabled:
            if self.sequence_dim:
                return output
            return reduce_scatter_to_sequence_parallel_region(output.transpose(0, 1).contiguous(), process_group=group)
        return output if group.size() == 1 else comm.all_reduce(xm.REDUCE_SUM, output, group)

    def preshard_hook(self, model_state_dict: dict[str, Any], prefix: str) -> None:
        """Pads the full weight that `prefix` names.

        Raises:
            RuntimeError: it does not have the unpadded size.
        """
        if not self.pad or self.pad_size == 0:
            return
        size = model_state_dict[prefix].shape[self.weight_partition_dim]
        padded = self.embedding_dim if self.shard_across_embedding else self.num_embeddings
        if padded != size + self.pad_size:
            raise RuntimeError(
                f"State dict {prefix} is of an unexpected shape {size}, expected {padded - self.pad_size}"
            )
        amount = (0, self.pad_size) if self.shard_across_embedding else (0, 0, 0, self.pad_size)
        model_state_dict[prefix] = F.pad(model_state_dict[prefix], amount)
