# SPDX-License-Identifier: Apache-2.0
"""Random Gemma 4 models whose greedy tokens vary, the same in the reference environment and here.

A model is a configuration in the Hub's spelling; the weights of a tensor follow from its name and shape. The embedding
is small beside what the layers add, or the tied head would repeat the last token; no norm weight or `layer_scalar` is
1. Used by `tools/make_greedy_reference.py` and by the tests.
"""

import zlib

import numpy as np
import torch


NEW_TOKENS = 64
BASE = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
GREEDY_CONFIGS = {
    # As the 31B: K = V on global layers, softcap, fewer global KV heads.
    "like_31b": {
        **BASE,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
        "num_global_key_value_heads": 2,
        "global_head_dim": 32,
        "attention_k_eq_v": True,
        "sliding_window": 16,
        "final_logit_softcapping": 30.0,
        "use_bidirectional_attention": "vision",
    },
    # One global KV head for all ranks, a window that is no power of two, a first layer that is global.
    "one_global_head": {
        **BASE,
        "num_hidden_layers": 4,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 1,
        "global_head_dim": 64,
        "attention_k_eq_v": True,
        "sliding_window": 11,
        "final_logit_softcapping": 30.0,
        "use_bidirectional_attention": "vision",
    },
    # V has its own projection everywhere, one KV head, no softcap.
    "own_v_proj": {
        **BASE,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "num_key_value_heads": 1,
        "global_head_dim": 32,
        "attention_k_eq_v": False,
        "sliding_window": 24,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": None,
    },
}


def greedy_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 weights of a tensor, by its name below `model.language_model.`."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("layer_scalar"):
        values = 0.8 + 0.2 * np.abs(values)
    elif name == "norm.weight":  # so large that the softcap bends the largest logits
        values = 10 * (1 + 0.3 * values)
    elif "norm" in name:
        values = 1 + 0.3 * values
    elif name == "embed_tokens.weight":
        values = 0.06 * values
    else:
        values = values / shape[-1] ** 0.5
    return torch.from_numpy(values).float()


def greedy_prompts(name: str) -> list[torch.Tensor]:
    """Prompts of a model: shorter than, equal to and longer than its window; all cross it while they are continued."""
    window = GREEDY_CONFIGS[name]["sliding_window"]
    generator = np.random.default_rng(window)
    return [torch.from_numpy(generator.integers(3, 256, length)) for length in (window - 6, window, window + 17)]
