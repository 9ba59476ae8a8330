# SPDX-License-Identifier: Apache-2.0
"""RowParallelLinear, forward only, with the SDK's signature and errors.

The weight is stored transposed, [output, input], as in torch, and its columns are divided over the ranks. The bias is
added after the reduction, on every rank.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torch_xla.core.xla_model as xm
from torch.distributed import ProcessGroup

from .. import comm
from ..mappings import _reduce_scatter_along_dim, scatter_to_tensor_model_parallel_region
from ..utils import divide, get_padding_length
from .base import BaseParallelLinear, parallel_group, sequence_dimension_of, unexpected_size


class RowParallelLinear(BaseParallelLinear):
    """Y = X A^T with the columns of A, the inputs, divided over the ranks, and Y summed over them.

    Args:
        input_is_parallel: each rank already holds its own part of X; otherwise it is cut from the full X by
            `group.rank()`, which a trace bakes in as rank 0.
        reduce_dtype: the dtype of the sum.

    Raises:
        RuntimeError: `pad` while training, or sequence parallelism with an input that is not parallel.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        bias: bool = True,
        input_is_parallel: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        stride: int = 1,
        init_method: Callable[..., Any] | None = None,
        sequence_parallel_enabled: bool = False,
        sequence_dimension: int | None = None,
        keep_master_weight: bool = False,
        skip_bias_add: bool = False,
        pad: bool = False,
        reduce_output: bool = True,
        tensor_model_parallel_group: ProcessGroup | None = None,
        reduce_dtype: torch.dtype = torch.float32,
        tile_cc: bool = False,
        rank_ordering: list[int] | None = None,
    ):
        super().__init__(device=device)
        self.input_size = input_size
        self.output_size = output_size
        self.add_bias = bias
        self.input_is_parallel = input_is_parallel
        self.pad = pad
        self.reduce_output = reduce_output
        self.tensor_parallel_group = parallel_group(tensor_model_parallel_group)
        self.reduce_dtype = reduce_dtype if reduce_dtype is not None else dtype
        self.tile_cc = tile_cc
        self.rank_ordering = rank_ordering
        world_size = self.tensor_parallel_group.size()
        if pad:
            self.pad_size = get_padding_length(input_size, world_size)
            self.input_size += self.pad_size
        self.input_size_per_partition = divide(self.input_size, world_size)
        self.arg_init_method = init_method
        self.sequence_parallel_enabled = sequence_parallel_enabled
        if sequence_parallel_enabled and not input_is_parallel:
            raise RuntimeError("To enable `sequence_parallel_enabled`, `input_is_parallel` must be `True`")
        self.sequence_dimension = sequence_dimension_of(sequence_parallel_enabled, sequence_dimension)
        self.dtype = dtype
        self.stride = stride
        self.keep_master_weight = keep_master_weight
        self.skip_bias_add = skip_bias_add

        self._make_weight((output_size, self.input_size_per_partition), partition_dim=1, device=device)
        if bias:
            self.bias = self._new_bias(output_size, fan_in=self.input_size_per_partition)
            self.bias.sequence_parallel_enabled = sequence_parallel_enabled
        else:
            self.register_parameter("bias", None)

    def forward(self, input_: torch.Tensor, slice_indices: torch.Tensor | None = None):
        """Returns Y, [..., output], or (Y, bias) with `skip_bias_add`; `slice_indices` selects columns."""
        self._check_pad_false_for_training()
        if not self.input_is_parallel:
            if self.pad and self.pad_size > 0:
                input_ = F.pad(input_, (0, self.pad_size))
            input_ = scatter_to_tensor_model_parallel_region(input_, process_group=self.tensor_parallel_group)
        weight = self.weight if slice_indices is None else self.weight[:, slice_indices]
        output = F.linear(input_, weight)
        if self.reduce_output:
            output = self._reduce_output(output)
        if self.skip_bias_add:
            return output, self.bias
        return output if self.bias is None else output + self.bias

    def _reduce_output(self, output: torch.Tensor) -> torch.Tensor:
        group, dtype = self.tensor_parallel_group, output.dtype
        output = output.to(self.reduce_dtype)
        if self.sequence_parallel_enabled:
            output = _reduce_scatter_along_dim(output, self.sequence_dimension, process_group=group)
        elif group.size() > 1:
            output = comm.all_reduce(xm.REDUCE_SUM, output, group)
        return output.to(dtype)

    def preshard_hook(self, model_state_dict: dict[str, Any], prefix: str) -> None:
        """Pads the full weight that `prefix` names.

        Raises:
            RuntimeError: it does not have the unpadded size.
        """
        if not self.pad or self.pad_size == 0:
            return
        size = model_state_dict[prefix].shape[1]
        if size + self.pad_size != self.input_size:
            raise unexpected_size(prefix, size, self.input_size - self.pad_size)
        model_state_dict[prefix] = F.pad(model_state_dict[prefix], (0, self.pad_size))
