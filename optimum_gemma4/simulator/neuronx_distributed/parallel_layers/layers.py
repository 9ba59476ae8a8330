# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.parallel_layers.layers: the parallel layers under the SDK's module name."""

from optimum_gemma4.simulator.training import training_name

from .base import BaseParallelLayer, BaseParallelLinear
from .embedding import ParallelEmbedding
from .linear import ColumnParallelLinear, RowParallelLinear
from .spmd_rank import SPMDRank


__all__ = [
    "BaseParallelLayer",
    "BaseParallelLinear",
    "ColumnParallelLinear",
    "ParallelEmbedding",
    "RowParallelLinear",
    "SPMDRank",
    "create_local_weight",
]

create_local_weight = training_name(__name__, "create_local_weight")
