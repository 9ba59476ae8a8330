# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.parallel_layers.layers: the parallel layers under the SDK's module name."""

from optimum_gemma4.simulator.not_simulated import not_simulated

from ._layers.base import BaseParallelLayer, BaseParallelLinear
from ._layers.column_linear import ColumnParallelLinear
from ._layers.embedding import ParallelEmbedding
from ._layers.row_linear import RowParallelLinear
from ._layers.spmd_rank import SPMDRank


__all__ = [
    "BaseParallelLayer",
    "BaseParallelLinear",
    "ColumnParallelLinear",
    "ParallelEmbedding",
    "RowParallelLinear",
    "SPMDRank",
    "create_local_weight",
]

create_local_weight = not_simulated(__name__, "create_local_weight")
