# SPDX-License-Identifier: Apache-2.0
"""A small text-only Gemma 4 with random weights, for tests of everything around the numbers.

Its norms and layer scalars are away from 1 and its embedding is small, so that no layer is an identity and greedy tokens
do not fall into a loop at once. Window 8, one K = V layer: a prompt of more than 8 tokens turns the rings.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from optimum_gemma4.exporters.key_table import text_specs
from optimum_gemma4.modeling.configuration import Gemma4TextConfig
from optimum_gemma4.modeling.geometry import TextGeometry


WINDOW = 8
VOCAB_SIZE = 128
STOP_IDS = [1, 106, 50]

RANDOM_CONFIG = {
    "model_type": "gemma4_text",
    "architectures": ["Gemma4ForCausalLM"],
    "dtype": "float32",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_global_key_value_heads": 1,
    "head_dim": 8,
    "global_head_dim": 16,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 0,
    "final_logit_softcapping": 30.0,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
GENERATION_CONFIG = {
    "bos_token_id": 2,
    "pad_token_id": 0,
    "eos_token_id": STOP_IDS,
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 64,
    "top_p": 0.95,
}


def write_random_checkpoint(folder: Path, seed: int = 0, **overrides) -> Path:
    """Write config.json, generation_config.json and model.safetensors; `overrides` change the configuration."""
    config = {**RANDOM_CONFIG, **overrides}
    generator = torch.Generator().manual_seed(seed)
    geometry = TextGeometry.from_config(Gemma4TextConfig.from_dict(config))
    tensors = {}
    for spec in text_specs(geometry, "model."):
        values = torch.randn(spec.shape, generator=generator)
        if "norm" in spec.source:
            values = 1 + 0.3 * values
        elif "layer_scalar" in spec.source:
            values = 0.8 + 0.2 * values.abs()
        elif "embed_tokens" in spec.source:
            values = 0.06 * values
        else:
            values = values / spec.shape[-1] ** 0.5
        tensors[spec.source] = values.to(getattr(torch, config["dtype"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
