# SPDX-License-Identifier: Apache-2.0
"""Small random Gemma 4 text models, the same in the reference environment and here.

A model is a configuration in the Hub's spelling and a seed: weights come from numpy, tensor by tensor in the order of
their names, rounded to bf16 so that the fp32 and the bf16 run have the same ones. No norm weight, no `layer_scalar`
and no row of the embedding is a plain 1 or 0. Used by `tools/make_text_reference.py` and by the tests.
"""

from pathlib import Path

import numpy as np
import torch


GOLDEN = Path(__file__).parent / "golden"
SEQUENCE = 72  # tokens of every reference sequence, several windows
BATCH = 3

ROPE = {
    "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
}
BASE = {
    "vocab_size": 128,
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096,
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
    "enable_moe_block": False,
    "tie_word_embeddings": True,
    "rope_parameters": ROPE,
}
TEXT_CONFIGS = {
    # The 31B in small: two periods of 5 sliding layers and a global one, K = V there.
    "like_31b": {
        **BASE,
        "num_hidden_layers": 12,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
        "num_global_key_value_heads": 2,
        "global_head_dim": 32,
        "attention_k_eq_v": True,
        "sliding_window": 16,
        "final_logit_softcapping": 30.0,
        "use_bidirectional_attention": "vision",
    },
    # As the 12B: one global KV head; a window that is no power of two; a first layer that is global.
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
    # As E2B without its extras: V has its own projection everywhere, no softcap, a RoPE factor.
    "own_v_proj": {
        **BASE,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "num_key_value_heads": 1,
        "num_global_key_value_heads": None,
        "global_head_dim": 32,
        "attention_k_eq_v": False,
        "sliding_window": 24,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": None,
        "rope_parameters": {**ROPE, "full_attention": {**ROPE["full_attention"], "factor": 2.0}},
    },
}
SEEDS = {name: seed for seed, name in enumerate(TEXT_CONFIGS, start=41)}


def weight_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names below `model.language_model.` and shapes of every stored tensor of a model."""
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    shapes = {"embed_tokens.weight": (config["vocab_size"], hidden), "norm.weight": (hidden,)}
    for index, kind in enumerate(config["layer_types"]):
        is_global = kind == "full_attention"
        k_eq_v = is_global and config["attention_k_eq_v"]
        head_dim = config["global_head_dim"] if is_global else config["head_dim"]
        kv_heads = config["num_global_key_value_heads"] if k_eq_v else config["num_key_value_heads"]
        layer = {
            "self_attn.q_proj.weight": (heads * head_dim, hidden),
            "self_attn.k_proj.weight": (kv_heads * head_dim, hidden),
            "self_attn.o_proj.weight": (hidden, heads * head_dim),
            "self_attn.q_norm.weight": (head_dim,),
            "self_attn.k_norm.weight": (head_dim,),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
            "layer_scalar": (1,),
        }
        if not k_eq_v:
            layer["self_attn.v_proj.weight"] = (kv_heads * head_dim, hidden)
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            layer[f"{norm}_layernorm.weight"] = (hidden,)
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
    return dict(sorted(shapes.items()))


def _draw(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("layer_scalar"):
        return generator.uniform(0.7, 1.2, shape)
    if name == "norm.weight":  # so large that the softcap bends the largest logits
        return 10 * np.exp(0.3 * generator.standard_normal(shape))
    if name.endswith(("q_norm.weight", "k_norm.weight")):  # scores of a few units, so that attention is no argmax
        return 0.6 * np.exp(0.3 * generator.standard_normal(shape))
    if "layernorm" in name and ".post_" in name:  # a layer adds to the residual stream, it does not replace it
        return 0.2 * np.exp(0.4 * generator.standard_normal(shape))
    if name.endswith("norm.weight"):
        return np.exp(0.4 * generator.standard_normal(shape))
    if name == "embed_tokens.weight":
        return 0.12 * generator.standard_normal(shape)
    return generator.standard_normal(shape) / shape[-1] ** 0.5


def random_weights(name: str) -> dict[str, torch.Tensor]:
    """Weights of a model of `TEXT_CONFIGS`, float32 with bf16's precision."""
    generator = np.random.default_rng(SEEDS[name])
    return {
        key: torch.from_numpy(_draw(generator, key, shape)).bfloat16().float()
        for key, shape in weight_shapes(TEXT_CONFIGS[name]).items()
    }


IMAGE_TOKEN = 127


def random_tokens(name: str) -> torch.Tensor:
    """Ids [BATCH, SEQUENCE] of the reference sequences; neither pad (0) nor the image placeholder are among them."""
    generator = np.random.default_rng(SEEDS[name] + 1000)
    return torch.from_numpy(generator.integers(1, IMAGE_TOKEN, (BATCH, SEQUENCE)))


# Image blocks (first, last) of two sequences: at the start, longer than the window, side by side, at the end.
IMAGE_BLOCKS = [[(0, 4), (20, 49)], [(9, 14), (16, 30), (60, 71)]]


def image_case(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sequences with image blocks: ids [2, SEQUENCE], token types [2, SEQUENCE], features [M, D] in reading order."""
    ids = random_tokens(name)[:2].clone()
    types = torch.zeros_like(ids)
    for row, blocks in enumerate(IMAGE_BLOCKS):
        for first, last in blocks:
            types[row, first : last + 1] = 1
    ids[types == 1] = IMAGE_TOKEN
    generator = np.random.default_rng(SEEDS[name] + 2000)
    features = generator.standard_normal((int(types.sum()), TEXT_CONFIGS[name]["hidden_size"]))
    return ids, types, torch.from_numpy(features).bfloat16().float()


# Head dims of the 31B, and positions up to its longest context.
ROPE_HEAD_DIMS = {"sliding": 256, "global": 512}
ROPE_POSITIONS = [0, 1, 63, 1023, 32_768, 262_143]


def rope_heads(kind: str) -> torch.Tensor:
    """Heads [1, P, 2, H] to turn."""
    generator = np.random.default_rng(7)
    heads = generator.standard_normal((1, len(ROPE_POSITIONS), 2, ROPE_HEAD_DIMS[kind]))
    return torch.from_numpy(heads).bfloat16().float()


def golden(name: str) -> dict[str, torch.Tensor]:
    """What `tools/make_text_reference.py` wrote for a model, or for "rope"."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(value) for key, value in file.items()}
