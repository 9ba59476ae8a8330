# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of optimum-neuron's own classes, exported once for each configuration that tests ask for."""

from dataclasses import dataclass
from pathlib import Path

import torch
from optimum.neuron.models.inference.backend.config import NxDNeuronConfig
from optimum.neuron.models.inference.granite.modeling_granite import GraniteNxDModelForCausalLM
from optimum.neuron.models.inference.llama.modeling_llama import LlamaNxDModelForCausalLM
from optimum.neuron.models.inference.qwen3.modeling_qwen3 import Qwen3NxDModelForCausalLM
from transformers import AutoModelForCausalLM, GraniteConfig, LlamaConfig, PretrainedConfig, Qwen3Config


SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,  # greedy choices with clear gaps
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class UpstreamModel:
    """A model class of optimum-neuron and a tiny configuration for it."""

    model_class: type
    config: PretrainedConfig


MODELS = {
    "llama": UpstreamModel(LlamaNxDModelForCausalLM, LlamaConfig(**SIZES)),
    "qwen3": UpstreamModel(Qwen3NxDModelForCausalLM, Qwen3Config(**SIZES, head_dim=16)),
    "granite": UpstreamModel(
        GraniteNxDModelForCausalLM,
        GraniteConfig(**SIZES, logits_scaling=2.0, residual_multiplier=0.5, embedding_multiplier=3.0),
    ),
}
DEFAULTS = {
    "batch_size": 1,
    "sequence_length": 48,
    "tp_degree": 1,
    "torch_dtype": "float32",
    "on_device_sampling": True,
    "fused_qkv": False,
    "target": "trn2",
    "max_topk": 40,  # a rank must have that many tokens
}


class Upstream:
    """Checkpoints, exports and loaded models, each made once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._made: dict = {}

    def _once(self, key, make):
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def checkpoint(self, name: str) -> Path:
        """The folder of a random checkpoint."""
        folder = self._folder / name

        def make():
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(MODELS[name].config).save_pretrained(folder)
            return folder

        return self._once(name, make)

    def reference(self, name: str):
        """transformers' own model."""
        return self._once(
            ("reference", name), lambda: AutoModelForCausalLM.from_pretrained(self.checkpoint(name)).eval()
        )

    def artifact(self, name: str, **options) -> Path:
        """The folder of an exported model."""
        key = (name, *sorted(options.items()))

        def make():
            folder = self._folder / f"artifact_{len(self._made)}"
            config = NxDNeuronConfig(**{**DEFAULTS, **options})
            model = MODELS[name].model_class.export(str(self.checkpoint(name)), neuron_config=config)
            model.save_pretrained(str(folder))
            return folder

        return self._once(("artifact", key), make)

    def model(self, name: str, **options):
        """An exported model, loaded from its folder."""
        folder = self.artifact(name, **options)
        return self._once(folder, lambda: MODELS[name].model_class.from_pretrained(str(folder)))
