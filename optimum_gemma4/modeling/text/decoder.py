# SPDX-License-Identifier: Apache-2.0
"""The Gemma 4 text decoder as one traceable module, mirrors transformers 5.23 `Gemma4TextModel` with its head.

Differs from optimum-neuron's decoders: layers of two geometries with a cache each, padding told by position -1, image
features gathered on the device. It takes the place of `NxDDecoderModelForCausalLM` in optimum-neuron's graph builders:
same constructor, `kv_mgr.past_key_values` to alias, outputs [tokens or logits, (logits), *states].
input_ids [B, S] -> tokens [B] int, or logits [B, 1, vocabulary] float32.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..configuration import Gemma4Config, Gemma4TextConfig
from ..geometry import LayerSpec, TextGeometry
from ..parallel import column_parallel, gather, rank_util, sharded_embedding
from .attention import AttentionKernels, Gemma4TextAttention, TextStep
from .kv_cache import Gemma4KVCache
from .mlp import Gemma4TextMLP
from .rms_norm import Gemma4RMSNorm
from .rope import inverse_frequencies, rotary_tables
from .sampler import Gemma4Sampler


if TYPE_CHECKING:
    from ...exporters.neuron_config import Gemma4NeuronConfig

__all__ = ["Gemma4TextDecoderLayer", "Gemma4TextModel"]


class Gemma4TextDecoderLayer(nn.Module):
    """Attention and MLP between four norms; `layer_scalar` scales the whole residual stream at the end.

    Args:
        spec: geometry of the layer.
        geometry: of the model.
        tp_degree: number of ranks.
        dtype: of the weights.
        kernels: which attention kernels may be used.
    """

    def __init__(
        self, spec: LayerSpec, geometry: TextGeometry, tp_degree: int, dtype: torch.dtype, kernels: AttentionKernels
    ):
        super().__init__()
        hidden_size, eps = geometry.hidden_size, geometry.rms_norm_eps
        self.self_attn = Gemma4TextAttention(spec, hidden_size, eps, tp_degree, dtype, kernels)
        self.mlp = Gemma4TextMLP(hidden_size, geometry.intermediate_size, dtype)
        self.input_layernorm = Gemma4RMSNorm(hidden_size, eps)
        self.post_attention_layernorm = Gemma4RMSNorm(hidden_size, eps)
        self.pre_feedforward_layernorm = Gemma4RMSNorm(hidden_size, eps)
        self.post_feedforward_layernorm = Gemma4RMSNorm(hidden_size, eps)
        self.layer_scalar = nn.Parameter(torch.ones(1, dtype=dtype), requires_grad=False)

    def forward(
        self, hidden: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor], cache: Gemma4KVCache, step: TextStep
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Residual stream [B, S, D] -> [B, S, D] and the layer's two cache states; see `Gemma4TextAttention`."""
        attended, states = self.self_attn(self.input_layernorm(hidden), rotary, cache, step)
        hidden = hidden + self.post_attention_layernorm(attended)
        hidden = hidden + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(hidden)))
        return hidden * self.layer_scalar, states


class Gemma4TextModel(nn.Module):
    """Text decoder of one rank, with its KV cache, head and sampler.

    Parameter names are the checkpoint's below `model.language_model.`, plus `lm_head.weight` (the embedding again,
    split by vocabulary) and `rank_util.rank`.

    Args:
        config: text configuration, or that of the whole model.
        neuron_config: batch size, lengths, dtype, tensor parallel size, sampling, kernels and image budgets of the
            export: a `Gemma4NeuronConfig`.

    Raises:
        ValueError: the model cannot be split over `neuron_config.tp_degree` ranks, or uses what is not supported.
    """

    def __init__(self, config: Gemma4TextConfig | Gemma4Config, neuron_config: "Gemma4NeuronConfig"):
        super().__init__()
        geometry = TextGeometry.from_config(config)
        tp_degree, dtype = neuron_config.tp_degree, neuron_config.torch_dtype
        geometry.check_tp(tp_degree)
        self.geometry = geometry
        self.neuron_config = neuron_config
        self.embed_tokens = sharded_embedding(geometry.vocab_size, geometry.hidden_size, dtype)
        # Rounded to the weight's dtype before use: `Gemma4TextScaledWordEmbedding.forward`. 73.5 for the 31B in bf16.
        self.embed_scale = torch.tensor(geometry.hidden_size**0.5, device="cpu").to(dtype).item()
        kernels = AttentionKernels.of(neuron_config)
        self.layers = nn.ModuleList(
            Gemma4TextDecoderLayer(spec, geometry, tp_degree, dtype, kernels) for spec in geometry.layers
        )
        self.norm = Gemma4RMSNorm(geometry.hidden_size, geometry.rms_norm_eps)
        self.lm_head = column_parallel(
            geometry.hidden_size, geometry.vocab_size, dtype, gather_output=not neuron_config.on_device_sampling
        )
        self.rank_util = rank_util(tp_degree)
        self.kv_mgr = Gemma4KVCache(
            geometry, tp_degree, neuron_config.max_batch_size, neuron_config.sequence_length, dtype
        )
        self.sampler = Gemma4Sampler(neuron_config, do_sample=True) if neuron_config.on_device_sampling else None
        self.rope_frequencies = {spec.rope: inverse_frequencies(spec.rope).tolist() for spec in geometry.layers}

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        seq_ids: torch.Tensor,
        sampling_params: torch.Tensor,
        image_features: torch.Tensor | None = None,
        feature_index: torch.Tensor | None = None,
        end: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """One call of a prefill graph (S > 1) or of the decode graph (S == 1).

        Args:
            input_ids: int32 [B, S].
            position_ids: int32 [B, S]; 0, 1, ... per row when S > 1; -1 for padding (on the right) and unused rows.
            seq_ids: int32 [B], cache row of each sequence, all different, in any order.
            sampling_params: float32 [B, 3]: top_k, top_p, temperature.
            image_features: [M, D], the soft tokens of every image, in the model's dtype.
            feature_index: int32 [B, S], row of `image_features` for a position, -1 for the token's own embedding.
            end: int32 [B, S], last position that a query may see on sliding layers, less than the largest of
                `neuron_config.max_soft_tokens` ahead; -1 for padding. Decode ignores the three image inputs:
                generated tokens are causal and have embeddings of their own.

        Returns:
            Tokens [B] (on-device sampling) or float32 logits [B, 1, vocabulary]; the logits again if
            `neuron_config.output_logits`; then every state of the cache, written.
        """
        if position_ids.shape[1] > 1:
            # An image block is at most one image: the widest that was compiled bounds how far ahead a query may see.
            max_lookahead = 0 if end is None else max(self.neuron_config.max_soft_tokens) - 1
            step = TextStep(position_ids, seq_ids, end, max_lookahead)
            hidden, states = self._decode_layers(self._embed(input_ids, image_features, feature_index), step)
            hidden = _last_token(hidden, position_ids)
        else:
            input_ids, step = self._in_cache_order(input_ids, position_ids, seq_ids)
            hidden, states = self._decode_layers(self._embed(input_ids), step)
            hidden = hidden.index_select(0, seq_ids.clamp(0, self.kv_mgr.num_rows - 1).long())
        return [*self._outputs(hidden, sampling_params), *states]

    def _in_cache_order(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, seq_ids: torch.Tensor
    ) -> tuple[torch.Tensor, TextStep]:
        """Reorder one token per sequence [B, 1] into the rows of the cache [rows, 1], absent rows at position -1.

        Small integers move, so that the cache never does: it is read and written in place, row by row.
        """
        rows = torch.arange(self.kv_mgr.num_rows, dtype=seq_ids.dtype, device=seq_ids.device)
        matches = rows[:, None] == seq_ids  # [rows, B]
        batch = torch.arange(seq_ids.shape[0], dtype=torch.int32, device=seq_ids.device)
        source = (matches * batch).sum(1).clamp(0, seq_ids.shape[0] - 1).long()
        positions = torch.where(matches.any(1, keepdim=True), position_ids.index_select(0, source), -1)
        return input_ids.index_select(0, source), TextStep(positions, rows)

    def _embed(
        self,
        input_ids: torch.Tensor,
        image_features: torch.Tensor | None = None,
        feature_index: torch.Tensor | None = None,
    ) -> torch.Tensor:
        embedded = self.embed_tokens(input_ids) * self.embed_scale
        if feature_index is None:
            return embedded
        # Soft tokens take the place of embeddings and are not scaled.
        rows = feature_index.clamp(min=0, max=image_features.shape[0] - 1).flatten().long()
        features = image_features.index_select(0, rows).unflatten(0, feature_index.shape)  # [B * S, D] -> [B, S, D]
        return torch.where(feature_index[..., None] >= 0, features.to(embedded.dtype), embedded)

    def _decode_layers(self, hidden: torch.Tensor, step: TextStep) -> tuple[torch.Tensor, list[torch.Tensor]]:
        tables = {
            rope: rotary_tables(frequencies, step.position_ids, hidden.dtype)
            for rope, frequencies in self.rope_frequencies.items()
        }
        states = []
        for spec, layer in zip(self.geometry.layers, self.layers):
            hidden, layer_states = layer(hidden, tables[spec.rope], self.kv_mgr, step)
            states.extend(layer_states)
        return self.norm(hidden), states

    def _outputs(self, hidden: torch.Tensor, sampling_params: torch.Tensor) -> list[torch.Tensor]:
        """Logits [B, 1, vocabulary], or tokens [B], of the last position's hidden state [B, 1, D]."""
        logits = self.lm_head(hidden)
        if self.geometry.softcap is not None:
            # In the logits' own dtype, as HF; elementwise, so a rank's part of the vocabulary will do.
            logits = torch.tanh(logits / self.geometry.softcap) * self.geometry.softcap
        logits = logits.float()
        outputs = [logits]
        if self.sampler is not None:
            outputs = [self.sampler(logits[:, -1, :], sampling_params, rank_id=self.rank_util.get_rank())]
        if self.neuron_config.output_logits:
            outputs.append(logits if self.lm_head.gather_output else gather(logits, 2))
        return outputs


def _last_token(hidden: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
    """Hidden state at the largest position of each row, [B, S, D] -> [B, 1, D]; in prefill, position i is index i."""
    batch, length, _ = hidden.shape
    last = position_ids.amax(1).clamp(0, length - 1)
    rows = torch.arange(batch, dtype=last.dtype, device=last.device) * length + last
    return hidden.flatten(0, 1).index_select(0, rows.long())[:, None]
