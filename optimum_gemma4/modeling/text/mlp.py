# SPDX-License-Identifier: Apache-2.0
"""Gated MLP, mirrors transformers 5.23 `Gemma4TextMLP`: `down(gelu_tanh(gate(x)) * up(x))`.

gate and up are split by columns, down by rows with one all-reduce. [B, S, D] -> [B, S, D].
"""

import torch
from torch import nn

from ..parallel import column_parallel, row_parallel


__all__ = ["Gemma4TextMLP"]


class Gemma4TextMLP(nn.Module):
    """MLP of one decoder layer; the activation is the tanh approximation, as in every Gemma 4.

    Args:
        hidden_size, intermediate_size: of the whole model, before sharding.
        dtype: of the weights.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, dtype: torch.dtype):
        super().__init__()
        self.gate_proj = column_parallel(hidden_size, intermediate_size, dtype)
        self.up_proj = column_parallel(hidden_size, intermediate_size, dtype)
        self.down_proj = row_parallel(intermediate_size, hidden_size, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = nn.functional.gelu(self.gate_proj(x), approximate="tanh")
        return self.down_proj(gate * self.up_proj(x))
