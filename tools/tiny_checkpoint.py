# SPDX-License-Identifier: Apache-2.0
"""The structure of the tiny Gemma 4: its config in the Hub's spelling, its initial weights and its files.

Every structural feature of the 31B in small: 5:1 sliding and global layers, K = V on the global ones, their own head
dim and KV heads, proportional RoPE, `layer_scalar` away from 1, softcap, two-axis positions and standardisation in the
vision tower. Nothing is a plain 1 or 0 where a port could forget it.
"""

import copy
import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma4Config, Gemma4ForConditionalGeneration

from tests.modeling.processing.toy_checkpoint import IMAGE_PROCESSOR
from tools.tiny_tokenizer import NAMED, VIDEO, VOCAB_SIZE


ROPE = {
    "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
}
LAYERS = 12
HUB_TEXT = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_k_eq_v": True,
    "bos_token_id": 2,
    "dtype": "bfloat16",
    "enable_moe_block": False,
    "eos_token_id": 1,
    "expert_intermediate_size": None,
    "final_logit_softcapping": 30.0,
    "global_head_dim": 64,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 96,
    "hidden_size_per_layer_input": 0,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "layer_types": ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(LAYERS)],
    "max_position_embeddings": 8192,
    "model_type": "gemma4_text",
    "num_attention_heads": 8,
    "num_experts": None,
    "num_global_key_value_heads": 2,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 4,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_parameters": ROPE,
    "sliding_window": 32,
    "tie_word_embeddings": True,
    "top_k_experts": None,
    "use_bidirectional_attention": "vision",
    "use_cache": True,
    "use_double_wide_mlp": False,
    "vocab_size": VOCAB_SIZE,
    "vocab_size_per_layer_input": VOCAB_SIZE,
}
HUB_VISION = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "default_output_length": 70,
    "dtype": "bfloat16",
    "head_dim": 24,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 96,
    "initializer_range": 0.02,
    "intermediate_size": 192,
    "max_position_embeddings": 8192,
    "model_type": "gemma4_vision",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "position_embedding_size": 1024,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
    "standardize": True,
    "use_clipped_linears": False,
}
HUB_CONFIG = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "audio_config": None,
    "audio_token_id": NAMED["audio_token"][1],
    "boa_token_id": NAMED["boa_token"][1],
    "boi_token_id": NAMED["boi_token"][1],
    "dtype": "bfloat16",
    "eoa_token_id": NAMED["eoa_token"][1],
    "eoa_token_index": NAMED["eoa_token"][1],
    "eoi_token_id": NAMED["eoi_token"][1],
    "eos_token_id": [1, 106],
    "image_token_id": NAMED["image_token"][1],
    "initializer_range": 0.02,
    "model_type": "gemma4",
    "text_config": HUB_TEXT,
    "tie_word_embeddings": True,
    "transformers_version": "5.5.0",
    "video_token_id": VIDEO[1],
    "vision_config": HUB_VISION,
    "vision_soft_tokens_per_image": 70,
}
GENERATION_CONFIG = {
    "bos_token_id": 2,
    "do_sample": True,
    "eos_token_id": [1, 106, 50],
    "pad_token_id": 0,
    "temperature": 1.0,
    "top_k": 64,
    "top_p": 0.95,
    "transformers_version": "5.5.0",
}
PROCESSOR_CONFIG = {
    "audio_ms_per_token": 40,
    "audio_seq_length": 750,
    "image_processor": IMAGE_PROCESSOR | {"image_seq_length": 70, "max_soft_tokens": 70},
    "image_seq_length": 70,
    "processor_class": "Gemma4Processor",
}


def build(hub: dict, seed: int) -> Gemma4ForConditionalGeneration:
    """Build a fp32 model of a Hub config with initial weights that are fit for training and never plain."""
    torch.manual_seed(seed)
    config = copy.deepcopy(hub) | {"dtype": "float32"}
    model = Gemma4ForConditionalGeneration._from_config(Gemma4Config(**config), attn_implementation="sdpa").float()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.randn_like(tensor)
            if name.endswith("layer_scalar"):
                index = int(name.split(".layers.")[1].split(".")[0])
                tensor.fill_((0.75, 1.3, 0.9, 1.15, 0.65, 1.25, 0.85)[index % 7])
            elif name.endswith("std_bias"):
                tensor.copy_(0.5 * noise)
            elif name.endswith("std_scale"):
                tensor.copy_((0.25 * noise).exp() / math.sqrt(tensor.shape[0]))
            elif "norm" in name:
                # q_norm and k_norm carry what 1 / sqrt(head dim) carries elsewhere: the attention scale is 1.
                scale = tensor.shape[0] ** -0.25 if "_norm." in name else 0.5 if ".post_" in name else 1.0
                tensor.copy_(scale * (1 + 0.15 * noise))
            elif "position_embedding_table" in name:
                tensor.copy_(0.3 * noise)
            elif name.endswith("embed_tokens.weight"):
                tensor.copy_(noise * tensor.shape[1] ** -0.5)
            elif tensor.ndim == 2 and "lm_head" not in name:
                tensor.copy_(noise * tensor.shape[1] ** -0.5)
    return model


def save(model: Gemma4ForConditionalGeneration, hub: dict, folder: Path) -> int:
    """Write `config.json`, the processor and generation configs and bf16 weights with the Hub's key names.

    Returns:
        The number of stored parameters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config.json", hub),
        ("generation_config.json", GENERATION_CONFIG),
        ("processor_config.json", PROCESSOR_CONFIG),
    ):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return sum(v.numel() for v in tensors.values())


def reload_rounded(model: Gemma4ForConditionalGeneration, folder: Path) -> None:
    """Load the stored bf16 values back into the fp32 model, so that what is evaluated is what was saved."""
    missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"{folder} does not hold this model: missing {missing}, unexpected {unexpected}")
