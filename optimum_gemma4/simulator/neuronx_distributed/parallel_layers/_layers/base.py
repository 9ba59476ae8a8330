# SPDX-License-Identifier: Apache-2.0
"""What the parallel layers have in common: the fall-back to one rank, weight initialisation, the checks of `pad`."""

import math
import warnings

import torch
from torch import nn
from torch.distributed import ProcessGroup

from ..parallel_state import (
    get_tensor_model_parallel_group,
    initialize_model_parallel,
    model_parallel_is_initialized,
)
from .sharded import new_sharded_parameter


class BaseParallelLayer(nn.Module):
    """A layer that needs the parallel state; without one it makes that of a single rank, with a warning."""

    def __init__(self, device: torch.device | None = None):
        super().__init__()
        if not model_parallel_is_initialized():
            warnings.warn(
                "Parallel state is not initialized. Falling back to non-parallel equivalent.",
                category=UserWarning,
                stacklevel=2,
            )
            initialize_model_parallel(skip_collective_init=True)

    def _check_pad_false_for_training(self) -> None:
        if self.pad and self.training:
            raise RuntimeError("`pad=True` is only supported for inference. Set model.eval()")


class BaseParallelLinear(BaseParallelLayer):
    """The weight and bias of a parallel linear layer, from the attributes that its constructor has set."""

    def _make_weight(self, shape: tuple[int, int], partition_dim: int, device: torch.device | None) -> None:
        self.weight, master = new_sharded_parameter(
            shape,
            partition_dim=partition_dim,
            num_partitions=self.tensor_parallel_group.size(),
            initialize=self._init_weight,
            dtype=self.dtype,
            device=device,
            stride=self.stride,
            rank_ordering=self.rank_ordering,
        )
        self.master_weight = master if self.keep_master_weight else None
        self.device = self.weight.device

    def _init_weight(self, weight: torch.Tensor) -> None:
        if self.arg_init_method is None:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        else:
            self.arg_init_method(weight)

    def _new_bias(self, size: int, fan_in: int) -> nn.Parameter:
        bias = nn.Parameter(torch.empty(size, dtype=self.dtype, device=self.device))
        if bias.device.type != "meta":
            bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
            nn.init.uniform_(bias, -bound, bound)
        return bias


def parallel_group(group: ProcessGroup | None) -> ProcessGroup:
    """The given group, or the tensor-parallel one."""
    return group if group is not None else get_tensor_model_parallel_group()


def sequence_dimension_of(enabled: bool, dimension: int | None) -> int | None:
    """The sequence dimension of a layer; with sequence parallelism it defaults to 0, with a warning."""
    if enabled and dimension is None:
        warnings.warn("`sequence_parallel_enabled` without `sequence_dimension`: it defaults to 0.")
        return 0
    return dimension


def unexpected_size(prefix: str, size: int, expected: int) -> RuntimeError:
    """The error of a preshard hook that finds a tensor of another size."""
    return RuntimeError(f"State dict {prefix} is of an unexpected size {size}, expected {expected}")
