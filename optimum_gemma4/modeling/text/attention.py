# SPDX-License-Identifier: Apache-2.0
"""Attention of one decoder layer, mirrors transformers 5.23 `Gemma4TextAttention`.

Differs from Gemma 3: query, key and value are all normed (the value without a weight), the scale is 1.0, and on K = V
layers the value is the projection itself, before the key's norm. There one matmul serves both, and the cache keeps V
and the rotated dims of K: for the other dims q . K = (q * k_norm.weight) . V.
hidden [B, S, D] -> [B, S, D] and the layer's two cache states. The heads are those of one rank.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from optimum_gemma4.nki import cached_attention, choose, decode_fits, prefill_attention

from ..geometry import LayerSpec
from ..parallel import column_parallel, row_parallel
from .kv_cache import Gemma4KVCache
from .masks import last_visible, slot_ages
from .rms_norm import Gemma4RMSNorm
from .rope import apply_rotary, rotated_dims, without_rotated_dims


if TYPE_CHECKING:
    from ...exporters.neuron_config import Gemma4NeuronConfig

__all__ = ["AttentionKernels", "Gemma4TextAttention", "TextStep", "heads_fit_kernel"]

# Queries and keys are normed, so Gemma 4 does not divide by sqrt(head_dim). An argument of the attention, because
# folding it into the bf16 norm weights would round them.
ATTENTION_SCALE = 1.0


@dataclass(frozen=True)
class TextStep:
    """What every layer needs to know of one call.

    Attributes:
        position_ids: int32 [B, S], -1 for padding and unused rows.
        seq_ids: int32 [B], cache row of each sequence.
        end: int32 [B, S], see `masks`; `None` without images.
        max_lookahead: static bound of `end - position_ids`.
    """

    position_ids: torch.Tensor
    seq_ids: torch.Tensor
    end: torch.Tensor | None = None
    max_lookahead: int = 0

    @property
    def is_prefill(self) -> bool:
        """A prompt from position 0, or else one token for every row of the cache, in the cache's order."""
        return self.position_ids.shape[1] > 1


@dataclass(frozen=True)
class AttentionKernels:
    """Where the graphs will run, for the choice between a kernel and what the compiler makes of the torch form.

    Attributes:
        enabled: whether kernels may be used; they compute in bf16, so that models of other dtypes go without.
        platform: instance family, "trn1", "inf2" or "trn2".
        lnc: physical cores of a logical core.
    """

    enabled: bool
    platform: str
    lnc: int

    @classmethod
    def of(cls, neuron_config: "Gemma4NeuronConfig") -> "AttentionKernels":
        """As an export says."""
        return cls(
            enabled=neuron_config.nki_kernels and neuron_config.torch_dtype == torch.bfloat16,
            platform=neuron_config.target or "trn1",  # as optimum-neuron, which counts on one core without a target
            lnc=neuron_config.logical_nc_config,
        )

    def options(self, phase: str, head_dim: int, length: int, fits: bool = True) -> dict[str, bool | int]:
        """Arguments of the entry points in `nki` for a call of `phase` with `length` queries or slots."""
        chosen = self.enabled and choose(phase, head_dim, length, self.lnc, self.platform, fits).choice == "nki"
        return {"kernel": chosen, "lnc": self.lnc}


def heads_fit_kernel(spec: LayerSpec, tp_degree: int) -> bool:
    """Whether the decode kernel takes the heads of one rank."""
    shard = spec.shard(tp_degree)
    rotated = 2 * spec.rope.num_rotated_angles if spec.k_eq_v else 0
    return decode_fits(spec.head_dim, rotated, shard.num_heads, shard.num_heads // shard.num_kv_heads)


class Gemma4TextAttention(nn.Module):
    """Projections, norms, RoPE, cache and attention of one layer.

    Args:
        spec: geometry of the layer.
        hidden_size: D.
        eps: of the norms.
        tp_degree: number of ranks.
        dtype: of the weights.
        kernels: which kernels may be used.
    """

    def __init__(
        self,
        spec: LayerSpec,
        hidden_size: int,
        eps: float,
        tp_degree: int,
        dtype: torch.dtype,
        kernels: AttentionKernels,
    ):
        super().__init__()
        shard = spec.shard(tp_degree)
        self.spec = spec
        self.kernels = kernels
        self.heads_fit_kernel = heads_fit_kernel(spec, tp_degree)
        # Ranks that share a KV head hold a copy of it each: the layer is as wide as all copies together.
        kv_width = spec.num_kv_heads * shard.kv_replication * spec.head_dim
        query_width = spec.num_heads * spec.head_dim
        self.q_proj = column_parallel(hidden_size, query_width, dtype)
        self.k_proj = column_parallel(hidden_size, kv_width, dtype)
        self.v_proj = None if spec.k_eq_v else column_parallel(hidden_size, kv_width, dtype)
        self.o_proj = row_parallel(query_width, hidden_size, dtype)
        self.q_norm = Gemma4RMSNorm(spec.head_dim, eps)
        self.k_norm = Gemma4RMSNorm(spec.head_dim, eps)
        self.v_norm = Gemma4RMSNorm(spec.head_dim, eps, with_scale=False)

    def forward(
        self, hidden: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor], cache: Gemma4KVCache, step: TextStep
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Attend and write the cache.

        Args:
            hidden: normed residual [B, S, D].
            rotary: cos, sin [B, S, 1, R] of this layer's RoPE.
            cache: states of every layer before the call.
            step: positions and cache rows.

        Returns:
            Output [B, S, D] and the layer's two states after the call.
        """
        head_dim = self.spec.head_dim
        query = self.q_proj(hidden).unflatten(-1, (-1, head_dim))  # [B, S, D] -> [B, S, N, H]
        projected = self.k_proj(hidden).unflatten(-1, (-1, head_dim))  # [B, S, D] -> [B, S, K, H]
        value = projected if self.v_proj is None else self.v_proj(hidden).unflatten(-1, (-1, head_dim))
        query = apply_rotary(self.q_norm(query), *rotary)
        key = apply_rotary(self.k_norm(projected), *rotary)
        value = self.v_norm(value)

        kept_key = rotated_dims(key, self.spec.rope.num_rotated_angles) if self.spec.k_eq_v else key
        if step.is_prefill:
            states = cache.write_prompt(self.spec.index, (kept_key, value), step.position_ids, step.seq_ids)
            output = self._attend_prompt(query, key, value, step)
        else:
            positions = step.position_ids[:, 0]
            states = cache.write_token(self.spec.index, (kept_key, value), positions)
            output = self._attend_cache(query[:, 0], states, positions)[:, None]
        return self.o_proj(output.flatten(2)), states  # [B, S, N, H] -> [B, S, D]

    def _attend_prompt(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: TextStep
    ) -> torch.Tensor:
        """[B, S, N, H] and [B, S, K, H] -> [B, S, N, H]."""
        output = prefill_attention(
            query.permute(0, 2, 3, 1),  # -> [B, N, H, S]
            key.permute(0, 2, 3, 1),  # -> [B, K, H, S]
            value.transpose(1, 2),  # -> [B, K, S, H]
            last_visible(self.spec, step.position_ids, step.end),
            window=self.spec.window or 0,
            scale=ATTENTION_SCALE,
            max_lookahead=0 if self.spec.window is None else step.max_lookahead,
            **self.kernels.options("prefill", self.spec.head_dim, query.shape[1]),
        )
        return output.transpose(1, 2)  # [B, N, S, H] -> [B, S, N, H]

    def _attend_cache(
        self, query: torch.Tensor, states: tuple[torch.Tensor, torch.Tensor], positions: torch.Tensor
    ) -> torch.Tensor:
        """[B, N, H] against the states, which hold the token's own key and value already -> [B, N, H]."""
        key, value = states
        query_rotated = None
        if self.spec.k_eq_v:
            num_rotated_angles = self.spec.rope.num_rotated_angles
            query_rotated = rotated_dims(query, num_rotated_angles)
            # The product replaces a key that HF rounds once: formed in fp32, it is rounded once as well.
            scaled = (query.float() * self.k_norm.weight.float()).to(query.dtype)
            query = without_rotated_dims(scaled, num_rotated_angles)
        return cached_attention(
            query,
            key,
            value,
            slot_ages(positions, key.shape[2]),
            q_rot=query_rotated,
            window=self.spec.window or 0,
            scale=ATTENTION_SCALE,
            **self.kernels.options("decode", self.spec.head_dim, key.shape[2], self.heads_fit_kernel),
        )
