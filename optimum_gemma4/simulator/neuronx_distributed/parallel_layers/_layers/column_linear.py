# SPDX-License-Identifier: Apache-2.0
"""ColumnParallelLinear, forward only, with the SDK's signature and errors.

The weight is stored transposed, [output, input], as in torch, and its rows are divided over the ranks. The bias of a
gathered layer is full-size and unsharded.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.distributed import ProcessGroup

from ..mappings import _gather_along_dim
from ..utils import divide, get_padding_length, set_tensor_model_parallel_attributes
from .base import BaseParallelLinear, parallel_group, sequence_dimension_of, unexpected_size


class ColumnParallelLinear(BaseParallelLinear):
    """Y = X A^T with the rows of A, the outputs, divided over the ranks.

    Args:
        gather_output: gather the outputs on every rank; otherwise each keeps its own.
        pad: pad the outputs to a multiple of the ranks (and of `pad_alignment_size_per_rank` on each); cut off again
            after the gather unless `keep_padded_output`.

    Raises:
        RuntimeError: `pad` while training.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        bias: bool = True,
        gather_output: bool = True,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        stride: int = 1,
        init_method: Callable[[Any], torch.Tensor] | None = None,
        sequence_parallel_enabled: bool = False,
        sequence_dimension: int | None = None,
        keep_master_weight: bool = False,
        skip_bias_add: bool = False,
        pad: bool = False,
        pad_alignment_size_per_rank: int = 1,
        keep_padded_output: bool = False,
        tensor_model_parallel_group: ProcessGroup | None = None,
        reduce_dtype: torch.dtype = torch.float32,
        rank_ordering: list[int] | None = None,
    ):
        super().__init__(device=device)
        self.input_size = input_size
        self.output_size = output_size
        self.add_bias = bias
        self.gather_output = gather_output
        self.arg_init_method = init_method
        self.rank_ordering = rank_ordering
        self.tensor_parallel_group = parallel_group(tensor_model_parallel_group)
        world_size = self.tensor_parallel_group.size()
        self.pad = pad
        self.keep_padded_output = keep_padded_output
        if pad:
            self.pad_size = get_padding_length(output_size, pad_alignment_size_per_rank * world_size)
            self.output_size += self.pad_size
        self.output_size_per_partition = divide(self.output_size, world_size)
        self.dtype = dtype
        self.stride = stride
        self.keep_master_weight = keep_master_weight
        self.skip_bias_add = skip_bias_add
        self.sequence_parallel_enabled = sequence_parallel_enabled
        self.sequence_dimension = sequence_dimension_of(sequence_parallel_enabled, sequence_dimension)
        self.reduce_dtype = reduce_dtype if reduce_dtype is not None else dtype

        self._make_weight((self.output_size_per_partition, input_size), partition_dim=0, device=device)
        if bias:
            size = self.output_size if gather_output else self.output_size_per_partition
            self.bias = self._new_bias(size, fan_in=input_size)
            if not gather_output:
                set_tensor_model_parallel_attributes(
                    self.bias, True, 0, stride, num_partitions=world_size, rank_ordering=rank_ordering
                )
        else:
            self.register_parameter("bias", None)

    def forward(self, input: torch.Tensor, slice_indices: torch.Tensor | None = None):
        """Returns Y, [..., output], or (Y, bias) with `skip_bias_add`; `slice_indices` selects rows of the weight."""
        self._check_pad_false_for_training()
        if self.sequence_parallel_enabled:
            input = _gather_along_dim(input, self.sequence_dimension, self.tensor_parallel_group)
        weight = self.weight if slice_indices is None else self.weight[slice_indices, :]
        output = F.linear(input, weight)
        if self.gather_output:
            assert not self.sequence_parallel_enabled
            output = _gather_along_dim(output, output.dim() - 1, self.tensor_parallel_group)
            if not self.keep_padded_output and self.pad and self.pad_size > 0:
                output = torch.narrow(output, -1, 0, self.output_size - self.pad_size)
        if self.skip_bias_add:
            return output, self.bias
        return output if self.bias is None else output + self.bias

    def preshard_hook(self, model_state_dict: dict[str, Any], prefix: str) -> None:
        """Pads the full weight, or bias, that `prefix` names.

        Raises:
            RuntimeError: it does not have the unpadded size, or the name is neither a weight's nor a bias's.
        """
        if not self.pad or self.pad_size == 0:
            return
        size = model_state_dict[prefix].shape[0]
        if size + self.pad_size != self.output_size:
            raise unexpected_size(prefix, size, self.output_size - self.pad_size)
        if prefix.endswith("weight"):
            model_state_dict[prefix] = F.pad(model_state_dict[prefix], (0, 0, 0, self.pad_size))
        elif prefix.endswith("bias"):
            lowest = torch.finfo(model_state_dict[prefix].dtype).min
            model_state_dict[prefix] = F.pad(model_state_dict[prefix], (0, self.pad_size), "constant", lowest)
        else:
            raise RuntimeError(f"Could not decide how to pad {prefix}: it must end with weight or bias")
