# SPDX-License-Identifier: Apache-2.0
"""Random Gemma 4 checkpoints that every environment can make again, bit for bit, from a name.

Parity is also tested on models that nobody trained: other structures, weights wide enough for wide logits, norms and
`layer_scalar` far from 1. Weights come from a uniform integer generator (no libm, so the same on every machine), need
neither torch nor transformers, and are written as a Hub-layout folder: `write_checkpoint("random-kv", folder)`.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


ROPE = {
    "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
}


def _text(layers: int, every: int, **changes: object) -> dict:
    """A text config in the Hub's spelling; layer i is global when (i + 1) is a multiple of `every`."""
    return {
        "architectures": ["Gemma4ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_k_eq_v": True,
        "bos_token_id": 2,
        "dtype": "float32",
        "enable_moe_block": False,
        "eos_token_id": 1,
        "final_logit_softcapping": 30.0,
        "global_head_dim": 32,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 64,
        "hidden_size_per_layer_input": 0,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "layer_types": ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)],
        "max_position_embeddings": 4096,
        "model_type": "gemma4_text",
        "num_attention_heads": 8,
        "num_global_key_value_heads": 2,
        "num_hidden_layers": layers,
        "num_key_value_heads": 4,
        "num_kv_shared_layers": 0,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_parameters": ROPE,
        "sliding_window": 16,
        "tie_word_embeddings": True,
        "use_bidirectional_attention": "vision",
        "use_cache": True,
        "use_double_wide_mlp": False,
        "vocab_size": 256,
        "vocab_size_per_layer_input": 256,
    } | changes


def _vision(**changes: object) -> dict:
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "default_output_length": 280,
        "dtype": "float32",
        "head_dim": 20,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 80,
        "initializer_range": 0.02,
        "intermediate_size": 112,
        "max_position_embeddings": 4096,
        "model_type": "gemma4_vision",
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "position_embedding_size": 900,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
        "standardize": True,
        "use_clipped_linears": False,
    } | changes


def _multimodal(text: dict, vision: dict) -> dict:
    """A multimodal config whose image ids are the last ones of the small vocabulary."""
    size = text["vocab_size"]
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "audio_config": None,
        "audio_token_id": size - 1,
        "boa_token_id": size - 2,
        "boi_token_id": size - 3,
        "dtype": "float32",
        "eoa_token_index": size - 4,
        "eoi_token_id": size - 5,
        "eos_token_id": [1, 106],
        "image_token_id": size - 6,
        "initializer_range": 0.02,
        "model_type": "gemma4",
        "text_config": {k: v for k, v in text.items() if k != "architectures"},
        "tie_word_embeddings": True,
        "video_token_id": size - 7,
        "vision_config": vision,
        "vision_soft_tokens_per_image": 280,
    }


CONFIGS = {
    # As the 31B: K = V on global layers, their own head dim and number of KV heads.
    "random-kv": _text(6, 6),
    # attention_k_eq_v off: global layers have v_proj, and num_global_key_value_heads does not count.
    "random-plain": _text(
        6, 3, attention_k_eq_v=False, num_key_value_heads=2, use_bidirectional_attention=None, sliding_window=24
    ),
    # As many KV heads as query heads, a wider global head, a window longer than most prompts.
    "random-wide": _text(
        5, 5, num_key_value_heads=8, num_global_key_value_heads=8, global_head_dim=64, sliding_window=96
    ),
    # Two vision towers of other head structures: four heads of 20, and eight heads of 8 without standardisation.
    "random-vision": _multimodal(_text(6, 6), _vision()),
    "random-vision-narrow": _multimodal(
        _text(6, 6, sliding_window=24),
        _vision(
            head_dim=8,
            hidden_size=64,
            num_attention_heads=8,
            num_hidden_layers=2,
            num_key_value_heads=8,
            standardize=False,
        ),
    ),
}


def _text_shapes(text: dict, prefix: str) -> dict[str, tuple[int, ...]]:
    hidden, inner, heads = text["hidden_size"], text["intermediate_size"], text["num_attention_heads"]
    shapes = {f"{prefix}embed_tokens.weight": (text["vocab_size"], hidden), f"{prefix}norm.weight": (hidden,)}
    for index, kind in enumerate(text["layer_types"]):
        layer = f"{prefix}layers.{index}."
        full = kind == "full_attention"
        shared = full and text["attention_k_eq_v"]
        head_dim = text["global_head_dim"] if full else text["head_dim"]
        kv_heads = text["num_global_key_value_heads"] if shared else text["num_key_value_heads"]
        for norm in ("input_", "post_attention_", "pre_feedforward_", "post_feedforward_"):
            shapes[f"{layer}{norm}layernorm.weight"] = (hidden,)
        shapes[f"{layer}layer_scalar"] = (1,)
        shapes[f"{layer}self_attn.q_proj.weight"] = (heads * head_dim, hidden)
        shapes[f"{layer}self_attn.k_proj.weight"] = (kv_heads * head_dim, hidden)
        if not shared:
            shapes[f"{layer}self_attn.v_proj.weight"] = (kv_heads * head_dim, hidden)
        shapes[f"{layer}self_attn.o_proj.weight"] = (hidden, heads * head_dim)
        shapes[f"{layer}self_attn.q_norm.weight"] = shapes[f"{layer}self_attn.k_norm.weight"] = (head_dim,)
        shapes[f"{layer}mlp.gate_proj.weight"] = shapes[f"{layer}mlp.up_proj.weight"] = (inner, hidden)
        shapes[f"{layer}mlp.down_proj.weight"] = (hidden, inner)
    return shapes


def _vision_shapes(vision: dict, text_hidden: int) -> dict[str, tuple[int, ...]]:
    hidden, inner, tower = vision["hidden_size"], vision["intermediate_size"], "model.vision_tower."
    width = vision["num_attention_heads"] * vision["head_dim"]
    shapes = {
        f"{tower}patch_embedder.input_proj.weight": (hidden, 3 * vision["patch_size"] ** 2),
        f"{tower}patch_embedder.position_embedding_table": (2, vision["position_embedding_size"], hidden),
        "model.embed_vision.embedding_projection.weight": (text_hidden, hidden),
    }
    if vision["standardize"]:
        shapes[f"{tower}std_bias"] = shapes[f"{tower}std_scale"] = (hidden,)
    for index in range(vision["num_hidden_layers"]):
        layer = f"{tower}encoder.layers.{index}."
        for norm in ("input_", "post_attention_", "pre_feedforward_", "post_feedforward_"):
            shapes[f"{layer}{norm}layernorm.weight"] = (hidden,)
        for name in "qkv":
            shapes[f"{layer}self_attn.{name}_proj.linear.weight"] = (width, hidden)
        shapes[f"{layer}self_attn.o_proj.linear.weight"] = (hidden, width)
        for name in "qk":
            shapes[f"{layer}self_attn.{name}_norm.weight"] = (vision["head_dim"],)
        for name in ("gate", "up"):
            shapes[f"{layer}mlp.{name}_proj.linear.weight"] = (inner, hidden)
        shapes[f"{layer}mlp.down_proj.linear.weight"] = (hidden, inner)
    return shapes


def tensors(name: str) -> dict[str, np.ndarray]:
    """All weights of a random model, fp32, by the checkpoint's key names (without `lm_head`)."""
    config = CONFIGS[name]
    if "text_config" in config:
        shapes = _text_shapes(config["text_config"], "model.language_model.")
        shapes |= _vision_shapes(config["vision_config"], config["text_config"]["hidden_size"])
    else:
        shapes = _text_shapes(config, "model.")
    return {key: _values(name, key, shape) for key, shape in shapes.items()}


def _values(name: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(f"{name}/{key}".encode()).digest()[:8], "little")
    steps = np.random.default_rng(seed).integers(-(2**20), 2**20 + 1, shape)
    unit = steps / 2**20  # uniform in [-1, 1]
    if key.endswith("layer_scalar"):
        values = 0.9 + 0.35 * unit
    elif key.endswith("std_bias"):
        values = unit
    elif key.endswith("std_scale"):
        values = 0.15 + 0.08 * unit
    elif "_norm." in key:
        values = (1 + 0.4 * unit) * shape[0] ** -0.25 * 1.3
    elif "norm" in key:
        scale = 6.0 if key.endswith(".norm.weight") else 2.0 if ".post_" in key else 1.0
        values = scale * (1 + 0.5 * unit)
    elif "position_embedding_table" in key:
        values = 0.5 * unit
    elif "embed_tokens" in key:
        values = 0.25 * unit
    else:
        values = unit * 1.7 * shape[-1] ** -0.5
    return values.astype(np.float32)


def write_checkpoint(name: str, folder: Path) -> str:
    """Write `config.json`, `generation_config.json` and `model.safetensors` of a random model.

    Args:
        name: a key of CONFIGS.
        folder: where to write; it is made.

    Returns:
        The SHA-256 of all values in key order, which the goldens repeat.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = tensors(name)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name], indent=2, sort_keys=True) + "\n")
    generation = {"bos_token_id": 2, "eos_token_id": [1, 106, 50], "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(weights[key].astype("<f4").tobytes())
    return digest.hexdigest()
