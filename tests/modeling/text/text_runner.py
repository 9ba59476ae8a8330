# SPDX-License-Identifier: Apache-2.0
"""Drives `Gemma4TextModel` eagerly on the simulated ranks, as the runtime drives the compiled graphs.

One conversation is prefill in a bucket, then one token at a time; the cache states go out of one call and into the
next, as the aliased parameters of a device do. States start as NaN-free garbage: no test passes because of zeros.
"""

import torch
from text_models import TEXT_CONFIGS, random_weights

from optimum_gemma4.exporters.neuron_config import Gemma4NeuronConfig
from optimum_gemma4.modeling.configuration import Gemma4TextConfig
from optimum_gemma4.modeling.geometry import TextGeometry
from optimum_gemma4.modeling.text.decoder import Gemma4TextModel
from optimum_gemma4.simulator.engine.ranks import run_on_ranks, tensor_parallel


GREEDY = (1.0, 1.0, 1.0)


def shard(weights: dict[str, torch.Tensor], geometry: TextGeometry, tp: int) -> list[dict[str, torch.Tensor]]:
    """Weights of every rank, by the rule of `geometry.py`."""
    full = {**weights, "lm_head.weight": weights["embed_tokens.weight"]}
    for spec in geometry.layers:
        for name in ("k_proj", "v_proj"):
            key = f"layers.{spec.index}.self_attn.{name}.weight"
            if key in full:
                heads = full[key].unflatten(0, (spec.num_kv_heads, spec.head_dim))
                full[key] = heads.repeat_interleave(spec.shard(tp).kv_replication, dim=0).flatten(0, 1)
    by_column = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")
    by_row = ("o_proj.weight", "down_proj.weight", "embed_tokens.weight")
    ranks = [{"rank_util.rank": torch.tensor([rank], dtype=torch.int32)} for rank in range(tp)]
    for key, tensor in full.items():
        dim = 0 if key.endswith((*by_column, "lm_head.weight")) else 1 if key.endswith(by_row) else None
        parts = [tensor] * tp if dim is None else tensor.chunk(tp, dim)
        for rank, part in zip(ranks, parts):
            rank[key] = part
    return ranks


class TextRunner:
    """A model on `tp` simulated ranks with its cache.

    Args:
        name: of `TEXT_CONFIGS`.
        tp: ranks.
        rows: rows of the cache.
        sequence_length: as exported.
        max_soft_tokens: the longest image block that the prefill reaches across; any number.
        overrides: of the neuron config.
    """

    def __init__(
        self,
        name: str,
        tp: int = 1,
        rows: int = 1,
        sequence_length: int = 96,
        dtype: torch.dtype = torch.float32,
        config: dict | None = None,
        weights: dict[str, torch.Tensor] | None = None,
        max_soft_tokens: list[int] | None = None,
        **overrides,
    ):
        self.tp, self.rows = tp, rows
        self.config = Gemma4TextConfig(**(config or TEXT_CONFIGS[name]))
        self.neuron_config = Gemma4NeuronConfig(
            batch_size=rows,
            sequence_length=sequence_length,
            tp_degree=tp,
            torch_dtype=dtype,
            target="trn2",
            **overrides,
        )
        # Set behind the check: an image smaller than any budget bounds a band that short prompts go beyond.
        self.neuron_config.max_soft_tokens = max_soft_tokens
        geometry = TextGeometry.from_config(self.config)
        weights = {key: tensor.to(dtype) for key, tensor in (weights or random_weights(name)).items()}
        self.ranks = shard(weights, geometry, tp)
        with tensor_parallel(tp):
            self.model = Gemma4TextModel(self.config, self.neuron_config).eval().to(dtype)
        self.state_names = [f"kv_mgr.past_key_values.{i}" for i in range(len(self.model.kv_mgr.past_key_values))]
        generator = torch.Generator().manual_seed(7)
        for name_, state in zip(self.state_names, self.model.kv_mgr.past_key_values):
            for rank in self.ranks:
                rank[name_] = torch.randn(state.shape, generator=generator).to(dtype) * 3

    def states(self) -> list[torch.Tensor]:
        """Cache states, each with a leading rank axis."""
        return [torch.stack([rank[name] for rank in self.ranks]) for name in self.state_names]

    def call(self, input_ids, position_ids, seq_ids=None, **kwargs) -> list[torch.Tensor]:
        """One graph call: returns what comes before the states, of rank 0, and keeps the states."""
        batch = input_ids.shape[0]
        seq_ids = torch.arange(batch) if seq_ids is None else torch.as_tensor(seq_ids)
        arguments = [torch.as_tensor(t).to(torch.int32) for t in (input_ids, position_ids, seq_ids)]
        sampling = torch.tensor([GREEDY] * batch)
        with tensor_parallel(self.tp):
            outputs = run_on_ranks(self.model, self.ranks, *arguments, sampling, **kwargs)
        split = len(outputs) - len(self.state_names)
        for name, state in zip(self.state_names, outputs[split:]):
            state = state.expand(self.tp, *state.shape[-4:])
            for rank, value in zip(self.ranks, state):
                rank[name] = value
        return [output[0] for output in outputs[:split]]

    def prefill(self, prompts: list[torch.Tensor], bucket: int, seq_ids=None, **kwargs) -> torch.Tensor:
        """Logits [B, vocabulary] of the last token of each prompt, padded to `bucket`."""
        input_ids = torch.zeros(len(prompts), bucket, dtype=torch.int64)
        position_ids = torch.full((len(prompts), bucket), -1)
        for row, prompt in enumerate(prompts):
            input_ids[row, : len(prompt)] = prompt
            position_ids[row, : len(prompt)] = torch.arange(len(prompt))
        return self.call(input_ids, position_ids, seq_ids, **kwargs)[0][:, 0]

    def decode(self, tokens, positions, seq_ids=None) -> torch.Tensor:
        """Logits [B, vocabulary] after one more token per sequence."""
        return self.call(torch.as_tensor(tokens)[:, None], torch.as_tensor(positions)[:, None], seq_ids)[0][:, 0]

    def teacher_forced(self, tokens: torch.Tensor, lengths: list[int], bucket: int, steps: int) -> list[torch.Tensor]:
        """Logits of each sequence from the end of its prompt on, [1 + steps, vocabulary] each.

        Args:
            tokens: ids [B, >= max(lengths) + steps].
            lengths: prompt length of each sequence.
        """
        logits = [self.prefill([row[:length] for row, length in zip(tokens, lengths)], bucket)]
        for step in range(steps):
            positions = [length + step for length in lengths]
            logits.append(self.decode([row[p] for row, p in zip(tokens, positions)], positions))
        return list(torch.stack(logits, 1))
