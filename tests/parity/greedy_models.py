# SPDX-License-Identifier: Apache-2.0
"""Random Gemma 4 models whose greedy tokens vary, the same in the reference environment and here.

A model is a configuration in the Hub's spelling; the weights of a tensor follow from its name and shape. The embedding
is small beside what the layers add, or the tied head would repeat the last token; no norm weight or `layer_scalar` is
1. Used by `tools/make_greedy_reference.py` and by the tests.
"""

import zlib

import numpy as np
import torch

from tests.modeling.text.text_models import TEXT_CONFIGS


NEW_TOKENS = 64
SIZES = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
# The structures of the decoder's tests with the default RoPE, smaller and for generation
GREEDY_CONFIGS = {
    name: {key: value for key, value in config.items() if key != "rope_parameters"} | SIZES
    for name, config in TEXT_CONFIGS.items()
}
GREEDY_CONFIGS["like_31b"] |= {
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
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
