# SPDX-License-Identifier: Apache-2.0
"""SPMDRank: the rank as a parameter, which is the only way for a traced graph to know on which rank it runs."""

import torch
from torch import nn

from ..parallel_state import get_tensor_model_parallel_size
from ..utils import set_tensor_model_parallel_attributes


class SPMDRank(nn.Module):
    """Holds the rank in the parameter `rank`; the checkpoint must hold `arange(world_size)` (int32) for it."""

    def __init__(self, world_size: int, tensor_model_parallel_size: int | None = None):
        super().__init__()
        self.world_size = world_size
        self.tensor_model_parallel_size = (
            tensor_model_parallel_size if tensor_model_parallel_size is not None else get_tensor_model_parallel_size()
        )
        self.rank = nn.Parameter(torch.zeros(1, dtype=torch.int32), requires_grad=False)
        set_tensor_model_parallel_attributes(self.rank, True, 0, 1, num_partitions=world_size)

    def get_rank(self) -> torch.Tensor:
        """The rank, int32 of shape [1]."""
        return self.rank
