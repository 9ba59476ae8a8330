# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of `tests/modeling/text`, from transformers >= 5.23's own Gemma 4 classes.

Run in the reference environment, from the repository's root:
    python -m tools.make_text_reference [folder]
For each random model: logits of every position in fp32 and in bf16, what goes in and out of the modules of a sliding
and of a global layer in fp32, the bf16 embeddings, and for models with bidirectional images the logits of sequences
with image blocks. And the rotary embeddings of the 31B's head dims, in fp32 and in bf16.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import Gemma4Config, Gemma4ForConditionalGeneration, Gemma4TextConfig
from transformers.models.gemma4.modeling_gemma4 import Gemma4TextRotaryEmbedding, apply_rotary_pos_emb

from tests.modeling.text.text_models import (
    GOLDEN,
    IMAGE_TOKEN,
    ROPE_HEAD_DIMS,
    ROPE_POSITIONS,
    TEXT_CONFIGS,
    image_case,
    random_tokens,
    random_weights,
    rope_heads,
)
from tools.reference_models import cast


TRACED_MODULES = ("input_layernorm", "self_attn", "mlp", "self_attn.q_norm", "self_attn.v_norm")
TRACED_TOKENS = 40


def build(name: str, dtype: torch.dtype) -> Gemma4ForConditionalGeneration:
    """A model without vision tower; its image ids are ordinary ones, as the features are given."""
    config = Gemma4Config(
        text_config=dict(TEXT_CONFIGS[name]),
        vision_config=None,
        audio_config=None,
        image_token_id=IMAGE_TOKEN,
        video_token_id=1 << 20,
        audio_token_id=1 << 20,
    )
    config._attn_implementation = "eager"
    model = Gemma4ForConditionalGeneration(config).eval()
    missing, unexpected = model.model.language_model.load_state_dict(random_weights(name), strict=False)
    if missing or unexpected:
        raise ValueError(f"{name}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return cast(model, dtype)


def traced(model: Gemma4ForConditionalGeneration, tokens: torch.Tensor) -> dict[str, np.ndarray]:
    """Inputs and outputs of modules of the last sliding and the last global layer, float32."""
    layer_types = model.config.text_config.layer_types
    records = {}

    def recorder(key):
        def hook(module, args, kwargs, output):
            given = args[0] if args else kwargs["hidden_states"]
            records[f"{key}.in"] = given.clone().numpy()
            records[f"{key}.out"] = (output[0] if isinstance(output, tuple) else output).clone().numpy()

        return hook

    handles = []
    for kind in ("sliding_attention", "full_attention"):
        index = max(i for i, layer_type in enumerate(layer_types) if layer_type == kind)
        layer = model.model.language_model.layers[index]
        for name in TRACED_MODULES:
            handles.append(
                layer.get_submodule(name).register_forward_hook(recorder(f"{index}.{name}"), with_kwargs=True)
            )
        handles.append(layer.register_forward_hook(recorder(f"{index}.layer"), with_kwargs=True))
    model(tokens[:1, :TRACED_TOKENS])
    for handle in handles:
        handle.remove()
    return records


@torch.no_grad()
def reference(name: str) -> dict[str, np.ndarray]:
    """Everything that is kept of one model."""
    tokens = random_tokens(name)
    golden = {}
    for key, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = build(name, dtype)
        types = torch.zeros_like(tokens)
        golden[f"logits.{key}"] = model(tokens, mm_token_type_ids=types).logits.float().numpy()
        if key == "bf16":
            golden["embeddings.bf16"] = model.get_input_embeddings()(tokens[:1, :8]).float().numpy()
            continue
        golden |= traced(model, tokens)
        if TEXT_CONFIGS[name]["use_bidirectional_attention"] == "vision":
            ids, types, features = image_case(name)
            outputs = {"image": SimpleNamespace(pooler_output=[features])}
            golden["logits.images"] = model(ids, mm_token_type_ids=types, mm_encoder_outputs=outputs).logits.numpy()
    return golden


def rope_reference() -> dict[str, np.ndarray]:
    """Heads [1, P, 2, H] of the 31B's two kinds of layer, turned to `ROPE_POSITIONS`."""
    config = Gemma4TextConfig(head_dim=ROPE_HEAD_DIMS["sliding"], global_head_dim=ROPE_HEAD_DIMS["global"])
    rotary = Gemma4TextRotaryEmbedding(config)
    golden = {}
    for kind, layer_type in (("sliding", "sliding_attention"), ("global", "full_attention")):
        for key, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            heads = rope_heads(kind).to(dtype)
            cos, sin = rotary(heads, torch.tensor([ROPE_POSITIONS]), layer_type)
            golden[f"{kind}.{key}"] = apply_rotary_pos_emb(heads, cos, sin, unsqueeze_dim=2).float().numpy()
    return golden


def main(folder: Path) -> None:
    """Write one file per model, and one for the rotary embeddings."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "rope.npz", **rope_reference())
    for name in TEXT_CONFIGS:
        np.savez_compressed(folder / f"{name}.npz", **reference(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
