# SPDX-License-Identifier: Apache-2.0
"""What an export says about its attention: the 31B's choices, why kernels are left out, and how it is printed."""

import pytest
import torch
from config_31b import CONFIG_31B
from optimum.neuron.configuration_utils import NeuronConfig

from optimum_gemma4 import Gemma4NeuronConfig
from optimum_gemma4.exporters.kernel_record import kernel_record
from optimum_gemma4.modeling.configuration import Gemma4TextConfig
from optimum_gemma4.nki import render_dispatch


GLOBAL = list(range(5, 60, 6))
SLIDING = [index for index in range(60) if index not in GLOBAL]


def record(model=(), **changes) -> tuple[Gemma4NeuronConfig, list[dict]]:
    options = {
        "batch_size": 1,
        "sequence_length": 4096,
        "tp_degree": 4,
        "target": "trn2",
        "prefill_buckets": [512, 2048],
    }
    neuron_config = Gemma4NeuronConfig(**{**options, "torch_dtype": torch.bfloat16, **changes})
    return neuron_config, kernel_record(Gemma4TextConfig(**{**CONFIG_31B, **dict(model)}), neuron_config)


def test_the_31b_layer_by_layer_and_graph_by_graph():
    _, entries = record()
    keys = ("graph", "phase", "head_dim", "length", "runs", "layers")
    assert [tuple(entry[key] for key in keys) for entry in entries] == [
        ("context_encoding_512", "prefill", 256, 512, "compiler", SLIDING),
        ("context_encoding_512", "prefill", 512, 512, "compiler", GLOBAL),
        ("context_encoding_2048", "prefill", 256, 2048, "nki", SLIDING),
        ("context_encoding_2048", "prefill", 512, 2048, "nki", GLOBAL),
        ("token_generation", "decode", 256, 1024, "nki", SLIDING),  # a ring of one window
        ("token_generation", "decode", 512, 4096, "nki", GLOBAL),
    ]
    assert all(entry["reason"] for entry in entries)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nki_kernels": False}, "turned off (--no_nki)"),
        ({"torch_dtype": torch.float32}, "compute in bfloat16, and the model is float32"),
    ],
)
def test_why_no_kernel_runs(changes, reason):
    _, entries = record(**changes)
    assert {entry["runs"] for entry in entries} == {"compiler"}
    assert all(reason in entry["reason"] for entry in entries)


@pytest.mark.parametrize(
    "model",
    [
        {"num_attention_heads": 256, "num_key_value_heads": 16, "num_global_key_value_heads": 4},
        {"rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
        }},
    ],
    ids=["64 query heads a key head", "256 rotated dims"],
)  # fmt: skip
def test_what_the_decode_kernel_would_refuse_is_the_compilers(model):
    _, entries = record(model)
    sliding, full = entries[-2:]
    assert (sliding["runs"], full["runs"]) == ("nki", "compiler")
    assert full["reason"] == "more query heads or rotated dims than the kernel takes"


def test_it_comes_back_from_the_file(tmp_path):
    neuron_config, entries = record()
    assert neuron_config.attention_kernels is None
    neuron_config.attention_kernels = entries
    neuron_config.save_pretrained(tmp_path)
    assert NeuronConfig.from_pretrained(tmp_path).attention_kernels == entries


def test_it_is_printed_a_line_for_each_choice():
    lines = render_dispatch(record()[1]).splitlines()
    assert len(lines) == 6
    assert lines[2].startswith(
        "context_encoding_2048  prefill  head_dim 256  length    2048  nki      layers 0-4, 6-10,"
    )
    assert "layers 5, 11, 17, 23, 29, 35, 41, 47, 53, 59: K and V are read once" in lines[3]
