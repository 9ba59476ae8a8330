# SPDX-License-Identifier: Apache-2.0
"""From export to generate() with pictures, on random models: soft tokens, tokens and logits are transformers'.

One, two and five pictures, first, in the middle and last, side by side and alone, longer than the window, at several
budgets, in batches with other numbers of pictures or none. A wrong mask, position or picture moves these logits by
units, the tolerance is 1e-3. Goldens: `tools/make_multimodal_reference.py`. Slow: every prompt at every size.
"""

import json
from pathlib import Path

import pytest
import torch
from goldens import load_golden
from multimodal_models import (
    ASPECTS,
    BUDGETS,
    MULTIMODAL_CONFIGS,
    NEW_TOKENS,
    PROMPTS,
    PROMPTS_OF,
    SPECIAL_IDS,
    WINDOW,
    batch_inputs,
    kept_rows,
    multimodal_weight,
)
from safetensors.torch import save_file

from optimum_gemma4.exporters.key_table import text_specs, vision_specs
from optimum_gemma4.modeling.configuration import Gemma4Config
from optimum_gemma4.modeling.geometry import TextGeometry
from optimum_gemma4.modeling.processing import Gemma4ImageProcessor
from optimum_gemma4.modeling.vision.spec import VisionSpec


LOGITS_TOLERANCE = 1e-3
FEATURES_TOLERANCE = 1e-4  # largest difference over largest value
GREEDY = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None}
OPTIONS = {
    "sequence_length": 400,
    "prefill_buckets": [96, 160, 352],
    "max_soft_tokens": list(BUDGETS),
    "torch_dtype": "float32",
    "on_device_sampling": False,
}
# Fewer graphs, to be exported sooner; both rows in one prefill, each with its own section of the soft tokens
TWO_ROWS = {
    **OPTIONS,
    "continuous_batching": False,
    "prefill_buckets": [352],
    "max_soft_tokens": [70, 140],
    "batch_size": 2,
    "tensor_parallel_size": 2,
}


@pytest.fixture(scope="module")
def goldens() -> dict[str, dict[str, torch.Tensor]]:
    return {name: load_golden(f"multimodal_{name}") for name in MULTIMODAL_CONFIGS}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """The models in the Hub's layout."""
    folders = {}
    for name, values in MULTIMODAL_CONFIGS.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        (folder / "config.json").write_text(json.dumps(values))
        config = Gemma4Config.from_pretrained(folder)
        geometry = TextGeometry.from_config(config)
        specs = [
            *text_specs(geometry, "model.language_model."),
            *vision_specs(VisionSpec.from_config(config.vision_config, geometry.hidden_size), "model."),
        ]
        weights = {spec.source: multimodal_weight(spec.source.removeprefix("model."), spec.shape) for spec in specs}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folders


def largest_error(model, golden, names: tuple[str, ...]) -> float:
    """Generates; asserts that the tokens are the reference's, and returns the largest difference of the logits."""
    inputs = batch_inputs([PROMPTS[name] for name in names], Gemma4ImageProcessor())
    output = model.generate(**inputs, return_dict_in_generate=True, output_logits=True, **GREEDY)
    errors = []
    for row, name in enumerate(names):
        prompt, tokens = golden[f"{name}.prompt"].long(), golden[f"{name}.tokens"].long()
        assert inputs["input_ids"][row, -len(prompt) :].equal(prompt)
        assert output.sequences[row, inputs["input_ids"].shape[1] :].equal(tokens), names
        logits = torch.stack([step[row] for step in output.logits])
        errors.append((logits - golden[f"{name}.logits"]).abs().max().item())
    return max(errors)


def relative_features_error(model, golden, budgets: list[int]) -> float:
    """Of the soft tokens of every shape at these budgets."""
    errors = []
    for budget in budgets:
        pictures = [picture.draw() for picture in ASPECTS.values()]
        images = Gemma4ImageProcessor()(pictures, max_soft_tokens=budget, return_tensors="pt")
        features = model.get_image_features(images["pixel_values"], images["image_position_ids"])
        for aspect, rows, count in zip(ASPECTS, features, images["num_soft_tokens_per_image"], strict=True):
            assert len(rows) == count
            wanted = golden[f"{aspect} {budget}.features"]
            kept = rows[torch.from_numpy(kept_rows(len(rows)))]
            errors.append(((kept - wanted).abs().max() / wanted.abs().max()).item())
    return max(errors)


def pairs(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every prompt with its neighbour: batches of unequal lengths, budgets and numbers of pictures."""
    return [(name, names[index - 1]) for index, name in enumerate(names)]


def test_goldens_hold_what_they_should(goldens):
    """Continuations vary; some hold placeholder ids; every picture is longer than the window."""
    placeholders = torch.tensor([SPECIAL_IDS[f"{kind}_token_id"] for kind in ("image", "video", "audio")])
    for name, golden in goldens.items():
        sampled = torch.stack([golden[f"{prompt}.tokens"] for prompt in PROMPTS_OF[name]]).long()
        assert len(sampled.unique()) >= 20 and torch.isin(sampled, placeholders).any()
        for prompt in PROMPTS_OF[name]:
            soft_tokens = torch.isin(golden[f"{prompt}.prompt"], placeholders).sum()
            assert soft_tokens >= (WINDOW + 1) * len(PROMPTS[prompt].pictures())


@pytest.mark.parametrize("names", [("side by side",), ("last",)], ids=" + ".join)
def test_one_prompt_on_one_rank(image_exports, checkpoints, goldens, names):
    options = {**OPTIONS, "sequence_length": 208, "prefill_buckets": [160], "max_soft_tokens": [70]}
    model = image_exports.model(checkpoints["like_31b"], **options)
    assert largest_error(model, goldens["like_31b"], names) < LOGITS_TOLERANCE


@pytest.mark.parametrize("names", [("five", "no picture"), ("video", "of 140")], ids=" + ".join)
def test_two_prompts_on_two_ranks(image_exports, checkpoints, goldens, names):
    model = image_exports.model(checkpoints["like_31b"], **TWO_ROWS)
    assert largest_error(model, goldens["like_31b"], names) < LOGITS_TOLERANCE


def test_soft_tokens_of_every_shape(image_exports, checkpoints, goldens):
    model = image_exports.model(checkpoints["like_31b"], **TWO_ROWS)
    assert relative_features_error(model, goldens["like_31b"], [70, 140]) < FEATURES_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("name", list(MULTIMODAL_CONFIGS))
def test_every_prompt_and_picture(image_exports, checkpoints, goldens, name, tp):
    model = image_exports.model(checkpoints[name], **OPTIONS, tensor_parallel_size=tp)
    assert relative_features_error(model, goldens[name], BUDGETS) < FEATURES_TOLERANCE
    errors = {prompt: largest_error(model, goldens[name], (prompt,)) for prompt in PROMPTS_OF[name]}
    assert max(errors.values()) < LOGITS_TOLERANCE, errors


@pytest.mark.slow
@pytest.mark.parametrize("continuous_batching", [True, False])
@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("name", list(MULTIMODAL_CONFIGS))
def test_every_prompt_beside_another(image_exports, checkpoints, goldens, name, tp, continuous_batching):
    model = image_exports.model(
        checkpoints[name],
        **OPTIONS,
        batch_size=2,
        tensor_parallel_size=tp,
        continuous_batching=continuous_batching,
    )
    errors = {pair: largest_error(model, goldens[name], pair) for pair in pairs(PROMPTS_OF[name])}
    assert max(errors.values()) < LOGITS_TOLERANCE, errors


@pytest.mark.slow
@pytest.mark.parametrize("tp", [1, 2, 4])
def test_tokens_chosen_on_the_device_are_the_same(image_exports, checkpoints, goldens, tp):
    options = {**OPTIONS, "on_device_sampling": True}
    model = image_exports.model(checkpoints["like_31b"], **options, batch_size=2, tensor_parallel_size=tp)
    for names in pairs(PROMPTS_OF["like_31b"]):
        inputs = batch_inputs([PROMPTS[name] for name in names], Gemma4ImageProcessor())
        sequences = model.generate(**inputs, **GREEDY)
        for row, name in enumerate(names):
            new = sequences[row, inputs["input_ids"].shape[1] :]
            assert new.tolist() == goldens["like_31b"][f"{name}.tokens"].tolist(), names
