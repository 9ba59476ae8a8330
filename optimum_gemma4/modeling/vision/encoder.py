# SPDX-License-Identifier: Apache-2.0
"""The layers of the vision encoder, mirrors transformers 5.23 `Gemma4VisionEncoder` and `Gemma4VisionEncoderLayer`.

Each layer is the text model's sandwich: a norm before and after attention, before and after the gated MLP; there is no
layer scalar, and no norm after the last layer. [n, P, C] -> [n, P, C].
"""

import torch
from torch import nn

from ..parallel import column_parallel, row_parallel
from ..text.rms_norm import Gemma4RMSNorm
from ..text.rope import inverse_frequencies
from .attention import AxisTables, Gemma4VisionAttention, axis_tables
from .linear import ClippableLinear
from .patches import valid_patches
from .spec import VisionSpec


__all__ = ["Gemma4VisionEncoder"]


class Gemma4VisionMLP(nn.Module):
    """`down(gelu_tanh(gate(x)) * up(x))`.

    Args:
        spec: geometry of the encoder.
        dtype: of the weights.
    """

    def __init__(self, spec: VisionSpec, dtype: torch.dtype):
        super().__init__()
        sizes = spec.hidden_size, spec.intermediate_size
        self.gate_proj = ClippableLinear(column_parallel(*sizes, dtype), spec.clipped_linears, dtype)
        self.up_proj = ClippableLinear(column_parallel(*sizes, dtype), spec.clipped_linears, dtype)
        self.down_proj = ClippableLinear(row_parallel(*sizes[::-1], dtype), spec.clipped_linears, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = nn.functional.gelu(self.gate_proj(x), approximate="tanh")
        return self.down_proj(gate * self.up_proj(x))


class Gemma4VisionEncoderLayer(nn.Module):
    """One layer; arguments as for `Gemma4VisionMLP`."""

    def __init__(self, spec: VisionSpec, dtype: torch.dtype):
        super().__init__()
        self.self_attn = Gemma4VisionAttention(spec, dtype)
        self.mlp = Gemma4VisionMLP(spec, dtype)
        self.input_layernorm = Gemma4RMSNorm(spec.hidden_size, spec.eps)
        self.post_attention_layernorm = Gemma4RMSNorm(spec.hidden_size, spec.eps)
        self.pre_feedforward_layernorm = Gemma4RMSNorm(spec.hidden_size, spec.eps)
        self.post_feedforward_layernorm = Gemma4RMSNorm(spec.hidden_size, spec.eps)

    def forward(self, hidden: torch.Tensor, tables: AxisTables, is_valid: torch.Tensor) -> torch.Tensor:
        attended = self.self_attn(self.input_layernorm(hidden), tables, is_valid)
        hidden = hidden + self.post_attention_layernorm(attended)
        fed_forward = self.mlp(self.pre_feedforward_layernorm(hidden))
        return hidden + self.post_feedforward_layernorm(fed_forward)


class Gemma4VisionEncoder(nn.Module):
    """All layers; arguments as for `Gemma4VisionMLP`."""

    def __init__(self, spec: VisionSpec, dtype: torch.dtype):
        super().__init__()
        self.frequencies = inverse_frequencies(spec.rope).tolist()
        self.layers = nn.ModuleList([Gemma4VisionEncoderLayer(spec, dtype) for _ in range(spec.num_layers)])

    def forward(self, hidden: torch.Tensor, image_position_ids: torch.Tensor) -> torch.Tensor:
        tables = axis_tables(self.frequencies, image_position_ids, hidden.dtype)
        is_valid = valid_patches(image_position_ids)
        for layer in self.layers:
            hidden = layer(hidden, tables, is_valid)
        return hidden
