# SPDX-License-Identifier: Apache-2.0
"""Attention of one vision layer, mirrors transformers 5.23 `Gemma4VisionAttention`.

Bidirectional over the valid patches of one image. As in the text model query, key and value are normed (the value
without a weight) and the scale is 1.0; RoPE is two-dimensional: the first half of each head turns with x, the second
with y. [n, P, C] -> [n, P, C]; the heads are those of one rank.
"""

import torch
from torch import nn

from ..parallel import column_parallel, row_parallel
from ..text.rms_norm import Gemma4RMSNorm
from ..text.rope import apply_rotary, rotary_tables
from .linear import ClippableLinear
from .spec import VisionSpec


__all__ = ["AxisTables", "Gemma4VisionAttention", "axis_tables", "masked_attention"]

ATTENTION_SCALE = 1.0
# Queries that attend at a time: all patches of the default budget. The largest budget (10080 patches) then needs a
# quarter of the score memory, and results do not change, since every query is on its own.
QUERY_BLOCK = 2520

# (cos, sin) [n, P, 1, H / 4] for x and for y
AxisTables = tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def axis_tables(frequencies: list[float], image_position_ids: torch.Tensor, dtype: torch.dtype) -> AxisTables:
    """Cosines and sines of every patch for both axes: [n, P, 2] -> two pairs of [n, P, 1, H / 4]."""
    x, y = (rotary_tables(frequencies, image_position_ids[..., axis], dtype) for axis in (0, 1))
    return x, y


def rotate_axes(heads: torch.Tensor, tables: AxisTables) -> torch.Tensor:
    """Turns the first half of each head [n, P, N, H] with x and the second with y."""
    halves = torch.split(heads, heads.shape[-1] // 2, dim=-1)
    return torch.cat([apply_rotary(half, *table) for half, table in zip(halves, tables, strict=True)], dim=-1)


def masked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, is_valid: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention over the valid keys, softmax in fp32.

    Args:
        query, key, value: [n, N, P, H].
        is_valid: bool [n, P]. Of an image without any valid patch all keys count alike, so that its values are finite.
        scale: of the scores.

    Returns:
        [n, N, P, H].
    """
    lowest = torch.full_like(is_valid, torch.finfo(torch.float32).min, dtype=torch.float32)
    bias = torch.where(is_valid, torch.zeros_like(lowest), lowest)[:, None, None, :]  # [n, P] -> [n, 1, 1, P]
    outputs = []
    for block in torch.split(query, QUERY_BLOCK, dim=2):
        scores = torch.matmul(block * scale, key.transpose(2, 3)).float() + bias
        outputs.append(torch.matmul(torch.softmax(scores, dim=-1).to(query.dtype), value))
    return torch.cat(outputs, dim=2)


class Gemma4VisionAttention(nn.Module):
    """Projections, norms, 2-D RoPE and attention.

    Args:
        spec: geometry of the encoder.
        dtype: of the weights.
    """

    def __init__(self, spec: VisionSpec, dtype: torch.dtype):
        super().__init__()
        self.head_dim = spec.head_dim
        width = spec.num_heads * spec.head_dim
        for name in ("q_proj", "k_proj", "v_proj"):
            linear = column_parallel(spec.hidden_size, width, dtype)
            self.add_module(name, ClippableLinear(linear, spec.clipped_linears, dtype))
        self.o_proj = ClippableLinear(row_parallel(width, spec.hidden_size, dtype), spec.clipped_linears, dtype)
        self.q_norm = Gemma4RMSNorm(spec.head_dim, spec.eps)
        self.k_norm = Gemma4RMSNorm(spec.head_dim, spec.eps)
        self.v_norm = Gemma4RMSNorm(spec.head_dim, spec.eps, with_scale=False)

    def forward(self, hidden: torch.Tensor, tables: AxisTables, is_valid: torch.Tensor) -> torch.Tensor:
        """Attend.

        Args:
            hidden: normed residual [n, P, C].
            tables: of `axis_tables`.
            is_valid: bool [n, P].
        """
        query, key, value = (
            projection(hidden).unflatten(-1, (-1, self.head_dim))  # [n, P, C] -> [n, P, N, H]
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query = rotate_axes(self.q_norm(query), tables)
        key = rotate_axes(self.k_norm(key), tables)
        heads = (heads.transpose(1, 2) for heads in (query, key, self.v_norm(value)))  # -> [n, N, P, H]
        output = masked_attention(*heads, is_valid, ATTENTION_SCALE)
        return self.o_proj(output.transpose(1, 2).flatten(2))  # [n, N, P, H] -> [n, P, C]
