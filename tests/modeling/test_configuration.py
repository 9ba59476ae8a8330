# SPDX-License-Identifier: Apache-2.0
"""Configurations: both spellings are read, the Hub's is written, and nothing of the file is lost."""

import copy
import json

import pytest
import torch

from optimum_gemma4.modeling.configuration import Gemma4Config, Gemma4TextConfig, Gemma4VisionConfig


LAYER_TYPES_12 = (["sliding_attention"] * 5 + ["full_attention"]) * 2

HUB_TEXT = {
    "model_type": "gemma4_text",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "num_global_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 32,
    "attention_k_eq_v": True,
    "layer_types": LAYER_TYPES_12,
    "sliding_window": 24,
    "hidden_size_per_layer_input": 0,
    "final_logit_softcapping": 30.0,
    "use_bidirectional_attention": "vision",
    "dtype": "bfloat16",
    "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
}
HUB = {
    "model_type": "gemma4",
    "architectures": ["Gemma4ForConditionalGeneration"],
    "audio_config": None,
    "dtype": "bfloat16",
    "eos_token_id": [1, 106],
    "vision_soft_tokens_per_image": 280,
    "text_config": HUB_TEXT,
    "vision_config": {
        "model_type": "gemma4_vision",
        "hidden_size": 48,
        "num_attention_heads": 4,
        "head_dim": 12,
        "standardize": True,
        "default_output_length": 280,
        "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
    },
}


def newer_spelling(config: dict) -> dict:
    """The same configuration as transformers 5.23 saves it."""
    config = copy.deepcopy(config)
    text = config["text_config"]
    overrides = {
        "head_dim": text.pop("global_head_dim"),
        "num_key_value_heads": text.pop("num_global_key_value_heads"),
    }
    text["per_layer_config"] = {"5": overrides, "11": overrides}
    config["vision_config"]["rope_parameters"]["rope_type"] = "axial"
    return config


def write(folder, config: dict):
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("spelling", [copy.deepcopy, newer_spelling], ids=["hub", "transformers-5.15"])
def test_reads_both_spellings_and_writes_the_hubs(tmp_path, spelling):
    config = Gemma4Config.from_pretrained(write(tmp_path, spelling(HUB)))
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    for key, value in HUB.items():
        if key not in ("text_config", "vision_config"):
            assert saved[key] == value, key
    for key, value in HUB["text_config"].items():
        assert saved["text_config"][key] == value, key
    for key, value in HUB["vision_config"].items():
        assert saved["vision_config"][key] == value, key
    assert "per_layer_config" not in saved["text_config"]
    assert Gemma4Config.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_types_of_sub_configs_and_dtype(tmp_path):
    config = Gemma4Config.from_pretrained(write(tmp_path, HUB))
    assert isinstance(config.text_config, Gemma4TextConfig)
    assert isinstance(config.vision_config, Gemma4VisionConfig)
    assert config.get_text_config() is config.text_config
    assert config.dtype == config.text_config.torch_dtype == torch.bfloat16


def test_dtype_of_either_level_reaches_the_other():
    without = {key: value for key, value in HUB_TEXT.items() if key != "dtype"}
    assert Gemma4Config(text_config=without, dtype="bfloat16").text_config.dtype == torch.bfloat16
    assert Gemma4Config(text_config=without, torch_dtype="float16").text_config.dtype == torch.float16
    assert Gemma4Config(text_config=HUB_TEXT).dtype == torch.bfloat16


def test_text_config_from_a_multimodal_file(tmp_path):
    config = Gemma4TextConfig.from_pretrained(write(tmp_path, HUB))
    assert (config.hidden_size, config.global_head_dim, config.num_global_key_value_heads) == (64, 32, 2)


def test_missing_vision_config_stays_missing(tmp_path):
    config = Gemma4Config.from_pretrained(write(tmp_path, {**HUB, "vision_config": None}))
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["vision_config"] is None
    assert Gemma4Config.from_pretrained(tmp_path).vision_config is None


@pytest.mark.parametrize("num_layers", [1, 5, 6, 12, 13])
def test_default_layer_types(num_layers):
    types = Gemma4TextConfig(num_hidden_layers=num_layers).layer_types
    expected = ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(num_layers)]
    expected[-1] = "full_attention"
    assert types == expected


def test_last_layer_is_forced_global_without_touching_the_argument():
    given = ["sliding_attention"] * 3
    assert Gemma4TextConfig(num_hidden_layers=3, layer_types=given).layer_types[-1] == "full_attention"
    assert given == ["sliding_attention"] * 3


def test_global_head_dim_defaults():
    assert Gemma4TextConfig().global_head_dim == 512
    # transformers >= 5.15 writes an empty table when no layer differs.
    assert Gemma4TextConfig(head_dim=16, per_layer_config={}).global_head_dim == 16


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layer_types": ["full_attention"]}, "1 entries"),
        ({"layer_types": ["chunked_attention"] * 11 + ["full_attention"]}, "chunked_attention"),
        ({"per_layer_config": {"0": {"head_dim": 8}}}, "layer 0"),
        ({"per_layer_config": {"12": {"head_dim": 8}}}, "layer 12"),
        ({"per_layer_config": {"5": {"head_dim": 8}}}, "differs"),
        ({"per_layer_config": {"5": {"sliding_window": 8}}}, "sliding_window"),
        (
            {"attention_k_eq_v": False, "per_layer_config": dict.fromkeys(["5", "11"], {"num_key_value_heads": 1})},
            "attention_k_eq_v",
        ),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Gemma4TextConfig(**{**HUB_TEXT, **changes})
