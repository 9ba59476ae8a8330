# SPDX-License-Identifier: Apache-2.0
"""Logits of every position of a prompt with pictures, which the compiled graphs, that give the last one, do not show.

Pixels go through the vision encoder, its soft tokens and the ends of the image blocks into the decoder; what the
decoder would cut to the last position is kept whole. Goldens: `tools/make_multimodal_reference.py`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from text_runner import TextRunner

from optimum_gemma4.exporters.key_table import text_specs, vision_specs
from optimum_gemma4.modeling.configuration import Gemma4TextConfig, Gemma4VisionConfig
from optimum_gemma4.modeling.geometry import TextGeometry
from optimum_gemma4.modeling.images.blocks import block_ends
from optimum_gemma4.modeling.processing import Gemma4ImageProcessor, soft_token_counts
from optimum_gemma4.modeling.text import decoder
from optimum_gemma4.modeling.vision.model import Gemma4ImageEncoder
from optimum_gemma4.modeling.vision.spec import VisionSpec
from optimum_gemma4.simulator.engine.ranks import tensor_parallel
from tests.parity.multimodal_models import (
    MULTIMODAL_CONFIGS,
    PROMPTS,
    PROMPTS_OF,
    WHOLE,
    multimodal_weight,
)


GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
LOGITS_ATOL = 1e-3
BUCKET = 160
_PER_TOKEN = ("input_ids", "mm_token_type_ids")
CASES = [(name, prompt) for name in MULTIMODAL_CONFIGS for prompt in WHOLE if prompt in PROMPTS_OF[name]]


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"multimodal_{name}.npz") as file:
        return dict(file)


def soft_tokens(name: str, inputs: dict[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Of all pictures of a prompt, one after another: [M, D]."""
    values = MULTIMODAL_CONFIGS[name]
    spec = VisionSpec.from_config(Gemma4VisionConfig(**values["vision_config"]), values["text_config"]["hidden_size"])
    weights = {
        target.name: multimodal_weight(each.source, each.shape).reshape(target.rank_shape(1))
        for each in vision_specs(spec, "")
        for target in each.targets
    }
    with tensor_parallel(1), torch.no_grad():
        encoder = Gemma4ImageEncoder(spec, dtype).to(dtype).eval()
        encoder.load_state_dict(weights)
        outputs = encoder(inputs["pixel_values"], inputs["image_position_ids"].int())
    counts = soft_token_counts(inputs["image_position_ids"])
    return torch.cat([rows[:count] for rows, count in zip(outputs, counts, strict=True)])


def text_weights(config: dict) -> dict[str, torch.Tensor]:
    specs = text_specs(TextGeometry.from_config(Gemma4TextConfig(**config)), "")
    return {each.source: multimodal_weight(f"language_model.{each.source}", each.shape) for each in specs}


@pytest.fixture
def whole_logits(monkeypatch):
    """A function from a model and a prompt to the logits of every position [S, V]."""
    monkeypatch.setattr(decoder, "_last_token", lambda hidden, position_ids: hidden)

    def logits_of(name: str, prompt: str, tp: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        config = MULTIMODAL_CONFIGS[name]["text_config"]
        inputs = PROMPTS[prompt].inputs(Gemma4ImageProcessor())
        length = inputs["input_ids"].shape[1]
        ids, types = (torch.nn.functional.pad(inputs[key], (0, BUCKET - length)) for key in _PER_TOKEN)
        positions = torch.arange(BUCKET)[None].clone()
        positions[:, length:] = -1
        is_bidirectional = config["use_bidirectional_attention"] == "vision"
        run = TextRunner(
            name,
            tp,
            sequence_length=BUCKET,
            dtype=dtype,
            config=config,
            weights=text_weights(config),
            max_soft_tokens=[70],
        )
        logits = run.call(
            ids,
            positions,
            image_features=soft_tokens(name, inputs, dtype),
            feature_index=torch.where(types > 0, types.cumsum(1) - 1, -1).int(),
            end=(block_ends(types, positions) if is_bidirectional else positions).int(),
        )[0]
        return logits[0, :length]

    return logits_of


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize(("name", "prompt"), CASES)
def test_d5_logits_of_every_position(name, prompt, tp, whole_logits):
    """PEERS.md D5: two pictures, longer than the window; causal on global layers, both directions on sliding ones."""
    wanted = golden(name)[f"{prompt}.whole"]
    np.testing.assert_allclose(whole_logits(name, prompt, tp).numpy(), wanted, atol=LOGITS_ATOL, rtol=0)


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize(("name", "prompt"), CASES)
def test_bf16_is_as_near_to_fp32_as_transformers_bf16(name, prompt, tp, whole_logits):
    """Root mean square over every position: encoder and decoder in bf16; softmax, norms, pooling in fp32 as there."""
    logits = whole_logits(name, prompt, tp, torch.bfloat16).numpy()
    error = np.sqrt(((logits - golden(name)[f"{prompt}.whole"]) ** 2).mean())
    assert error <= 1.2 * golden(name)[f"{prompt}.bf16_error"]
