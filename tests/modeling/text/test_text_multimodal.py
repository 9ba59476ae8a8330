# SPDX-License-Identifier: Apache-2.0
"""Logits of every position of a prompt with pictures, which the compiled graphs, that give the last one, do not show.

Pixels go through the vision encoder, its soft tokens and the ends of the image blocks into the decoder; what the decoder
would cut to the last position is kept whole. Goldens: `tools/make_multimodal_reference.py`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from text_runner import TextRunner

from optimum_gemma4.exporters.key_table import text_specs, vision_specs
from optimum_gemma4.modeling.configuration import Gemma4TextConfig, Gemma4VisionConfig
from optimum_gemma4.modeling.geometry import TextGeometry
from optimum_gemma4.modeling.image_blocks import block_ends
from optimum_gemma4.modeling.processing import Gemma4ImageProcessor, soft_token_counts
from optimum_gemma4.modeling.text import decoder
from optimum_gemma4.modeling.vision.model import Gemma4ImageEncoder
from optimum_gemma4.modeling.vision.spec import VisionSpec
from optimum_gemma4.simulator.engine.ranks import tensor_parallel
from tests.parity.multimodal_models import (
    MULTIMODAL_CONFIGS,
    PROMPTS,
    PROMPTS_OF,
    SPECIAL_IDS,
    WHOLE,
    multimodal_weight,
)


GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
LOGITS_ATOL = 1e-3
BUCKET = 160
CASES = [(name, prompt) for name in MULTIMODAL_CONFIGS for prompt in WHOLE if prompt in PROMPTS_OF[name]]


def soft_tokens(name: str, images) -> torch.Tensor:
    """Of all pictures of a prompt, one after another: [M, D]."""
    values = MULTIMODAL_CONFIGS[name]
    spec = VisionSpec.from_config(Gemma4VisionConfig(**values["vision_config"]), values["text_config"]["hidden_size"])
    weights = {each.source: multimodal_weight(each.source, each.shape) for each in vision_specs(spec, "")}
    with tensor_parallel(1), torch.no_grad():
        encoder = Gemma4ImageEncoder(spec, torch.float32).eval()
        encoder.load_state_dict(weights)
        outputs = encoder(images["pixel_values"], images["image_position_ids"].int())
    counts = soft_token_counts(images["image_position_ids"])
    return torch.cat([rows[:count] for rows, count in zip(outputs, counts, strict=True)])


def text_weights(config: dict) -> dict[str, torch.Tensor]:
    specs = text_specs(TextGeometry.from_config(Gemma4TextConfig(**config)), "")
    return {each.source: multimodal_weight(f"language_model.{each.source}", each.shape) for each in specs}


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize(("name", "prompt"), CASES)
def test_d5_logits_of_every_position(name, prompt, tp, monkeypatch):
    """PEERS.md D5: two pictures, longer than the window; causal on global layers, in both directions on sliding ones."""
    with np.load(GOLDEN / f"multimodal_{name}.npz") as file:
        ids, wanted = torch.from_numpy(file[f"{prompt}.prompt"]).long(), torch.from_numpy(file[f"{prompt}.whole"])
    monkeypatch.setattr(decoder, "_last_token", lambda hidden, position_ids: hidden)
    config = MULTIMODAL_CONFIGS[name]["text_config"]
    images = Gemma4ImageProcessor()(PROMPTS[prompt].pictures(), max_soft_tokens=70, return_tensors="pt")
    padded = torch.nn.functional.pad(ids, (0, BUCKET - len(ids)))[None]
    positions = torch.arange(BUCKET)[None].clone()
    positions[:, len(ids) :] = -1
    is_image = padded == SPECIAL_IDS["image_token_id"]
    end = positions
    if config["use_bidirectional_attention"] == "vision":
        end = block_ends(is_image.long(), positions)
    run = TextRunner(
        name, tp, sequence_length=BUCKET, config=config, weights=text_weights(config), max_soft_tokens=[70]
    )
    logits = run.call(
        padded,
        positions,
        image_features=soft_tokens(name, images),
        feature_index=torch.where(is_image, is_image.cumsum(1) - 1, -1).int(),
        end=end.int(),
    )[0]
    torch.testing.assert_close(logits[0, : len(ids)], wanted, atol=LOGITS_ATOL, rtol=0)
