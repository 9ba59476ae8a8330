# SPDX-License-Identifier: Apache-2.0
"""The neuron configuration: defaults, refusals, and the file that it is kept in."""

import json

import pytest
import torch
from optimum.neuron.configuration_utils import NeuronConfig

from optimum_gemma4 import Gemma4NeuronConfig
from optimum_gemma4.exporters.neuron_config import default_prefill_buckets


SHAPES = {"batch_size": 2, "sequence_length": 256, "tp_degree": 2, "target": "trn2"}


@pytest.mark.parametrize(
    ("length", "buckets"),
    [(2, [2]), (128, [128]), (255, [255]), (256, [128, 256]), (4096, [128, 512, 2048, 4096])],
)
def test_default_buckets_grow_by_four_and_end_with_the_longest_prompt(length, buckets):
    assert default_prefill_buckets(length) == buckets


def test_a_prompt_of_the_compiled_length_has_a_bucket_of_its_own_length():
    """PEERS D9: the peer's last token is overwritten when a prompt fills its bucket; see also the parity tests."""
    assert Gemma4NeuronConfig(**SHAPES).prefill_buckets[-1] == SHAPES["sequence_length"]


def test_the_last_bucket_is_the_longest_prompt():
    assert Gemma4NeuronConfig(**SHAPES, prefill_buckets=[16, 64]).max_context_length == 64


def test_it_comes_back_from_its_file_through_optimum_neuron(tmp_path):
    config = Gemma4NeuronConfig(**SHAPES, torch_dtype=torch.float32, prefill_buckets=[16, 64], nki_kernels=False)
    config.save_pretrained(tmp_path)
    for loader in (NeuronConfig, Gemma4NeuronConfig):
        loaded = loader.from_pretrained(tmp_path)
        assert isinstance(loaded, Gemma4NeuronConfig)
        assert vars(loaded) == vars(config)
    assert json.loads((tmp_path / "neuron_config.json").read_text())["backend"] == "simulator"


@pytest.mark.parametrize("budgets", [70, [70], [140, 70], (70, 140, 140)])
def test_image_budgets_are_kept_in_order_and_once(budgets, tmp_path):
    expected = [70] if budgets in (70, [70]) else [70, 140]
    config = Gemma4NeuronConfig(**SHAPES, max_soft_tokens=budgets, max_images=3)
    assert config.max_soft_tokens == expected
    config.save_pretrained(tmp_path)
    loaded = Gemma4NeuronConfig.from_pretrained(tmp_path)
    assert (loaded.max_soft_tokens, loaded.max_images) == (expected, 3)


def test_an_artifact_of_the_other_backend_is_refused(tmp_path):
    Gemma4NeuronConfig(**SHAPES, backend="neuron").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="compiled by the neuron backend and this process runs the simulator one"):
        Gemma4NeuronConfig.from_pretrained(tmp_path)


def test_another_artifact_is_refused(tmp_path):
    from optimum.neuron.models.inference.backend.config import NxDNeuronConfig

    NxDNeuronConfig(batch_size=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a NxDNeuronConfig, not a Gemma4NeuronConfig"):
        Gemma4NeuronConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"tp_degree": -1}, "tp_degree is -1"),
        ({"sequence_length": 1}, "sequence_length is 1"),
        ({"max_context_length": 512}, r"max_context_length is 512: expected 2 to sequence_length \(256\)"),
        ({"max_batch_size": 4}, "max_batch_size is 4 and batch_size 2"),
        ({"prefill_buckets": [64, 32, 256]}, "ascending"),
        ({"prefill_buckets": [32], "max_context_length": 64}, r"end with max_context_length \(64\)"),
        ({"prefill_buckets": [1, 256]}, "at least 2"),
        ({"prefill_buckets": []}, "ascending"),
        ({"speculation_length": 4}, "speculation_length is 4"),
        ({"fused_qkv": True}, "fused_qkv is True"),
        ({"pp_degree": 2}, "pp_degree is 2"),
        ({"output_logits": True}, "output_logits adds the logits"),
        ({"max_soft_tokens": 100}, r"max_soft_tokens is \[100\]: expected .*\[70, 140, 280, 560, 1120\]"),
        ({"max_soft_tokens": [70, 71]}, r"max_soft_tokens is \[70, 71\]"),
        ({"max_soft_tokens": []}, r"max_soft_tokens is \[\]"),
        ({"max_soft_tokens": [70, 280]}, "longest prompt has 256 tokens: an image of 280.*--sequence_length"),
        ({"max_soft_tokens": 140, "max_context_length": 141}, "longest prompt has 141 tokens"),
        ({"max_images": 2}, "max_images is 2, but without max_soft_tokens"),
        ({"max_soft_tokens": 70, "max_images": 0}, "max_images is 0: expected .*--max_images"),
        ({"max_soft_tokens": 70, "max_images": "two"}, "max_images is 'two'"),
    ],
)
def test_what_cannot_be_compiled_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Gemma4NeuronConfig(**{**SHAPES, **change})
