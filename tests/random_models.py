# SPDX-License-Identifier: Apache-2.0
"""Small Gemma 4 models with random weights, text only or with a vision encoder, for tests of all around the numbers.

Their norms and layer scalars are away from 1 and the embedding is small, so that no layer is an identity and greedy
tokens do not fall into a loop at once. Window 8, one K = V layer: a prompt of more than 8 tokens turns the rings, and
most images are longer than the window.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from optimum_gemma4.exporters.key_table import TensorSpec, text_specs, vision_specs
from optimum_gemma4.modeling.configuration import Gemma4Config, Gemma4TextConfig
from optimum_gemma4.modeling.geometry import TextGeometry
from optimum_gemma4.modeling.vision.spec import VisionSpec


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
IMAGE_ID, VIDEO_ID, AUDIO_ID, BOI_ID, EOI_ID = 120, 121, 122, 123, 124
FIRST_SPECIAL_ID = IMAGE_ID
RANDOM_IMAGE_CONFIG = {
    "model_type": "gemma4",
    "architectures": ["Gemma4ForConditionalGeneration"],
    "dtype": "float32",
    "image_token_id": IMAGE_ID,
    "video_token_id": VIDEO_ID,
    "audio_token_id": AUDIO_ID,
    "boi_token_id": BOI_ID,
    "eoi_token_id": EOI_ID,
    "vision_soft_tokens_per_image": 70,
    "vision_config": {
        "model_type": "gemma4_vision",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "position_embedding_size": 210,
        "standardize": True,
    },
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
    geometry = TextGeometry.from_config(Gemma4TextConfig.from_dict(config))
    return _write(folder, config, list(text_specs(geometry, "model.")), seed)


def write_random_image_checkpoint(folder: Path, seed: int = 0, **overrides) -> Path:
    """As `write_random_checkpoint`, with a vision encoder; `overrides` change the text configuration."""
    text = {**RANDOM_CONFIG, "use_bidirectional_attention": "vision", **overrides}
    values = {**RANDOM_IMAGE_CONFIG, "text_config": text}
    config = Gemma4Config.from_dict(values)
    geometry = TextGeometry.from_config(config)
    vision = VisionSpec.from_config(config.vision_config, geometry.hidden_size)
    specs = [*text_specs(geometry, "model.language_model."), *vision_specs(vision, "model.")]
    return _write(folder, values, specs, seed)


def _write(folder: Path, config: dict, specs: list[TensorSpec], seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, config["dtype"])
    tensors = {spec.source: _random(spec, generator).to(dtype) for spec in specs}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _random(spec: TensorSpec, generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(spec.shape, generator=generator)
    if "norm" in spec.source or "std_scale" in spec.source:
        return 1 + 0.3 * values
    if "layer_scalar" in spec.source:
        return 0.8 + 0.2 * values.abs()
    if "embed_tokens" in spec.source:
        return 0.06 * values
    if "position_embedding_table" in spec.source:
        return values
    return values / spec.shape[-1] ** 0.5
