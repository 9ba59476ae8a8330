# SPDX-License-Identifier: Apache-2.0
"""One decoder layer of a random model on simulated ranks, with its cache: for tests of attention and of the layer."""

import torch
from text_runner import TextRunner
from torch import nn

from optimum_gemma4.modeling.text.attention import TextStep
from optimum_gemma4.modeling.text.rope import rotary_tables
from optimum_gemma4.simulator.engine.ranks import run_on_ranks, tensor_parallel


class OneLayer(nn.Module):
    """Calls one layer, or only its attention, at given positions."""

    def __init__(self, runner: TextRunner, index: int, attention_only: bool):
        super().__init__()
        self.layer = runner.model.layers[index]
        self.kv_mgr = runner.model.kv_mgr
        self.spec = runner.model.geometry.layers[index]
        self.frequencies = runner.model.rope_frequencies[self.spec.rope]
        self.attention_only = attention_only

    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor):
        rotary = rotary_tables(self.frequencies, position_ids, hidden.dtype)
        step = TextStep(position_ids, torch.arange(hidden.shape[0], dtype=torch.int32))
        module = self.layer.self_attn if self.attention_only else self.layer
        return module(hidden, rotary, self.kv_mgr, step)


class LayerRunner:
    """Runs a layer call after call; its cache states carry over."""

    def __init__(self, name: str, index: int, tp: int = 1, attention_only: bool = True, **kwargs):
        self.runner = TextRunner(name, tp, **kwargs)
        self.tp, self.index = tp, index
        self.module = OneLayer(self.runner, index, attention_only)
        prefix = f"layers.{index}."
        self.ranks = []
        for rank in self.runner.ranks:
            own = {f"layer.{key[len(prefix) :]}": value for key, value in rank.items() if key.startswith(prefix)}
            self.ranks.append(own | {key: value for key, value in rank.items() if key.startswith("kv_mgr.")})

    def __call__(self, hidden: torch.Tensor, positions: list[int] | torch.Tensor) -> torch.Tensor:
        """hidden [1, S, D] at `positions` [S] -> [1, S, D]."""
        position_ids = torch.as_tensor(positions, dtype=torch.int32)[None]
        with tensor_parallel(self.tp):
            output, states = run_on_ranks(self.module, self.ranks, hidden, position_ids)
        for offset, state in enumerate(states):
            state = state.expand(self.tp, *state.shape[-4:])
            for rank, value in zip(self.ranks, state):
                rank[f"kv_mgr.past_key_values.{2 * self.index + offset}"] = value
        return output[0]
