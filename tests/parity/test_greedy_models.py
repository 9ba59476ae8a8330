# SPDX-License-Identifier: Apache-2.0
"""From export to generate() on random models: 64 greedy tokens and the logits of every step are transformers'.

The trained checkpoint has wide gaps between the best tokens; these models have narrow ones, other head counts, other
windows and no common period of layers. Goldens: `tools/make_greedy_reference.py`.
"""

import json
from pathlib import Path

import pytest
import torch
from goldens import load_golden
from greedy_models import GREEDY_CONFIGS, NEW_TOKENS, greedy_prompts, greedy_weight
from safetensors.torch import save_file

from optimum_gemma4.exporters.key_table import text_specs
from optimum_gemma4.modeling.configuration import Gemma4TextConfig
from optimum_gemma4.modeling.geometry import TextGeometry


TOLERANCE = 1e-3
GREEDY = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None}
OPTIONS = {"sequence_length": 112, "prefill_buckets": [48], "torch_dtype": "float32"}
PREFIX = "model.language_model."
# The fast ones: every way to give heads to ranks once; `tests/modeling/text` has all of them without an export
RANKS = {("like_31b", 4), ("like_31b", 8), ("one_global_head", 1), ("own_v_proj", 2)}
BATCHING = {("like_31b", False), ("one_global_head", True)}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_golden("greedy_models")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """The models in the Hub's layout."""
    folders = {}
    for name, text_config in GREEDY_CONFIGS.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        config = {"model_type": "gemma4", "dtype": "float32", "text_config": text_config, "vision_config": None}
        (folder / "config.json").write_text(json.dumps(config))
        specs = text_specs(TextGeometry.from_config(Gemma4TextConfig(**text_config)), PREFIX)
        weights = {spec.source: greedy_weight(spec.source.removeprefix(PREFIX), spec.shape) for spec in specs}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folders


def slow_but(fast: set[tuple], values: list) -> list:
    """Every model with every value, slow but for some."""
    every = [(name, value) for name in GREEDY_CONFIGS for value in values]
    return [pytest.param(*pair, marks=[] if pair in fast else pytest.mark.slow) for pair in every]


def left_padded(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's three prompts as a tokenizer pads them."""
    prompts = greedy_prompts(name)
    width = max(map(len, prompts))
    ids = torch.stack([torch.nn.functional.pad(prompt, (width - len(prompt), 0)) for prompt in prompts])
    mask = torch.stack([(torch.arange(width) >= width - len(prompt)).long() for prompt in prompts])
    return ids, mask


def test_the_goldens_are_of_these_prompts_and_do_not_repeat_one_token(golden):
    for name in GREEDY_CONFIGS:
        for row, prompt in enumerate(greedy_prompts(name)):
            assert golden[f"{name}.{row}.prompt"].tolist() == prompt.tolist()
            assert len(set(golden[f"{name}.{row}.tokens"].tolist())) >= 10


@pytest.mark.parametrize(("name", "tp"), slow_but(RANKS, [1, 2, 4, 8]))
def test_tokens_and_logits_of_a_batch(exports, checkpoints, golden, name, tp):
    """Three left-padded prompts: shorter than, equal to and longer than the window."""
    model = exports.model(
        checkpoints[name], **OPTIONS, batch_size=3, tensor_parallel_size=tp, on_device_sampling=False
    )
    ids, mask = left_padded(name)
    output = model.generate(ids, attention_mask=mask, return_dict_in_generate=True, output_logits=True, **GREEDY)
    logits = torch.stack(output.logits, dim=1)  # [3, 64, V]
    for row in range(3):
        assert output.sequences[row, ids.shape[1] :].tolist() == golden[f"{name}.{row}.tokens"].tolist()
        torch.testing.assert_close(logits[row], golden[f"{name}.{row}.logits"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("name", "continuous_batching"), slow_but(BATCHING, [True, False]))
def test_tokens_chosen_on_the_device_are_the_same(exports, checkpoints, golden, name, continuous_batching):
    model = exports.model(
        checkpoints[name], **OPTIONS, batch_size=3, tensor_parallel_size=2, continuous_batching=continuous_batching
    )
    ids, mask = left_padded(name)
    sequences = model.generate(ids, attention_mask=mask, **GREEDY)
    for row in range(3):
        assert sequences[row, ids.shape[1] :].tolist() == golden[f"{name}.{row}.tokens"].tolist()


@pytest.mark.parametrize("row", range(3))
def test_tokens_and_logits_alone(exports, checkpoints, golden, row):
    options = {**OPTIONS, "prefill_buckets": [24, 48]}
    model = exports.model(checkpoints["like_31b"], **options, on_device_sampling=False)
    prompt = golden[f"like_31b.{row}.prompt"][None]
    output = model.generate(prompt, return_dict_in_generate=True, output_logits=True, **GREEDY)
    assert output.sequences[0, prompt.shape[1] :].tolist() == golden[f"like_31b.{row}.tokens"].tolist()
    torch.testing.assert_close(torch.cat(output.logits), golden[f"like_31b.{row}.logits"], atol=TOLERANCE, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(GREEDY_CONFIGS))
def test_turning_the_kernels_off_changes_no_token(exports, checkpoints, name):
    """In bf16, the dtype that kernels take; heads this small stay with the compiler in either case."""
    options = {**OPTIONS, "torch_dtype": "bfloat16", "batch_size": 3, "tensor_parallel_size": 2}
    ids, mask = left_padded(name)
    on, off = (exports.model(checkpoints[name], **options, nki_kernels=enabled) for enabled in (True, False))
    assert (
        on.generate(ids, attention_mask=mask, **GREEDY).tolist()
        == off.generate(ids, attention_mask=mask, **GREEDY).tolist()
    )
    assert {entry["runs"] for entry in on.neuron_config.attention_kernels} == {"compiler"}
