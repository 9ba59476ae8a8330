# SPDX-License-Identifier: Apache-2.0
"""Checkpoints for the exporter's tests: the 31B's names and shapes from its specification, and random small files.

The names here are written out on their own, from the published checkpoint, and not taken from the key table, which is
what they test.
"""

import json
import struct
from pathlib import Path

import config_31b
import torch
from safetensors.torch import save_file


PREFIX = "model.language_model."
NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")

CONFIG_31B = {
    "model_type": "gemma4",
    "architectures": ["Gemma4ForConditionalGeneration"],
    "dtype": "bfloat16",
    "tie_word_embeddings": True,
    "image_token_id": 258880,
    "text_config": {
        "model_type": "gemma4_text",
        "dtype": "bfloat16",
        "vocab_size": 262144,
        **config_31b.CONFIG_31B,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 10,
        "tie_word_embeddings": True,
    },
    "vision_config": {
        "model_type": "gemma4_vision",
        **config_31b.VISION_CONFIG_31B,
        "patch_size": 16,
        "pooling_kernel_size": 3,
    },
}


def small_config(**text_overrides) -> dict:
    """The 31B's structure at a size for tests: sliding, sliding, full layers, K = V, 8 query and 4 / 2 KV heads."""
    config = json.loads(json.dumps(CONFIG_31B))
    config["text_config"] |= {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "num_global_key_value_heads": 2,
        "head_dim": 8,
        "global_head_dim": 16,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "max_position_embeddings": 256,
        **text_overrides,
    }
    config["vision_config"] |= {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "position_embedding_size": 64,
    }
    return config


def text_shapes(config: dict, prefix: str = PREFIX) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the text tensors as stored."""
    text = config["text_config"]
    hidden, intermediate = text["hidden_size"], text["intermediate_size"]
    shapes = {
        f"{prefix}embed_tokens.weight": (text["vocab_size"], hidden),
        f"{prefix}norm.weight": (hidden,),
    }
    for index, kind in enumerate(text["layer_types"]):
        layer = f"{prefix}layers.{index}"
        is_full = kind == "full_attention"
        head_dim = text["global_head_dim"] if is_full else text["head_dim"]
        kv_heads = text["num_global_key_value_heads"] if is_full else text["num_key_value_heads"]
        queries, keys = text["num_attention_heads"] * head_dim, kv_heads * head_dim
        shapes |= {f"{layer}.{norm}.weight": (hidden,) for norm in NORMS}
        shapes |= {
            f"{layer}.layer_scalar": (1,),
            f"{layer}.self_attn.q_proj.weight": (queries, hidden),
            f"{layer}.self_attn.k_proj.weight": (keys, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, queries),
            f"{layer}.self_attn.q_norm.weight": (head_dim,),
            f"{layer}.self_attn.k_norm.weight": (head_dim,),
            f"{layer}.mlp.gate_proj.weight": (intermediate, hidden),
            f"{layer}.mlp.up_proj.weight": (intermediate, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, intermediate),
        }
        if not is_full:
            shapes[f"{layer}.self_attn.v_proj.weight"] = (keys, hidden)
    return shapes


def vision_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the vision tensors as stored."""
    vision, text = config["vision_config"], config["text_config"]
    hidden, intermediate, head_dim = vision["hidden_size"], vision["intermediate_size"], vision["head_dim"]
    attention = vision["num_attention_heads"] * head_dim
    shapes = {
        "model.vision_tower.patch_embedder.input_proj.weight": (hidden, 3 * vision["patch_size"] ** 2),
        "model.vision_tower.patch_embedder.position_embedding_table": (2, vision["position_embedding_size"], hidden),
        "model.vision_tower.std_bias": (hidden,),
        "model.vision_tower.std_scale": (hidden,),
        "model.embed_vision.embedding_projection.weight": (text["hidden_size"], hidden),
    }
    for index in range(vision["num_hidden_layers"]):
        layer = f"model.vision_tower.encoder.layers.{index}"
        shapes |= {f"{layer}.{norm}.weight": (hidden,) for norm in NORMS}
        shapes |= {f"{layer}.self_attn.{part}_proj.linear.weight": (attention, hidden) for part in "qkv"}
        shapes |= {
            f"{layer}.self_attn.o_proj.linear.weight": (hidden, attention),
            f"{layer}.self_attn.q_norm.weight": (head_dim,),
            f"{layer}.self_attn.k_norm.weight": (head_dim,),
            f"{layer}.mlp.gate_proj.linear.weight": (intermediate, hidden),
            f"{layer}.mlp.up_proj.linear.weight": (intermediate, hidden),
            f"{layer}.mlp.down_proj.linear.weight": (hidden, intermediate),
        }
    return shapes


def random_tensors(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Every tensor with values of its own."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def write_checkpoint(folder: Path, config: dict, tensors: dict[str, torch.Tensor], files: int = 1) -> Path:
    """A folder in the Hub's layout, with an index when there is more than one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if files == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map = {}
    for part in range(files):
        name = f"model-{part + 1:05d}-of-{files:05d}.safetensors"
        names = list(tensors)[part::files]
        save_file({key: tensors[key] for key in names}, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_sparse_file(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "BF16", itemsize: int = 2) -> None:
    """A safetensors file of zeros that takes no space on disk: for headers of any size."""
    entries, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + itemsize * torch.Size(shape).numel()
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + offset)
