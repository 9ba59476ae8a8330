# SPDX-License-Identifier: Apache-2.0
"""The memory plan: the 31B's known sizes, the limits of the cores, and what a refusal advises."""

import pytest
import torch
from checkpoints import CONFIG_31B, small_config, text_shapes, vision_shapes

from optimum_gemma4 import Gemma4Config, Gemma4NeuronConfig
from optimum_gemma4.exporters.memory_planner import CORE_BYTES, GIB, MemoryPlan, plan_memory


TEXT = ("text",)


def _plan(tp: int, length: int, batch: int = 1, target: str = "trn2", bundles=TEXT) -> tuple:
    config = Gemma4Config.from_dict(CONFIG_31B)
    neuron_config = Gemma4NeuronConfig(
        batch_size=batch, sequence_length=length, tp_degree=tp, torch_dtype=torch.bfloat16, target=target
    )
    return config, neuron_config, plan_memory(config, neuron_config, bundles)


@pytest.mark.parametrize(("length", "limit"), [(8192, 0.30), (32768, 0.60), (262144, 3.35)])
def test_kv_memory_per_core_of_the_31b_at_tp_4(length, limit):
    """D18: the uniform cache of the peer's port takes 1.72, 6.88 and 55.0 GiB for the same lengths."""
    kv = _plan(4, length)[2].kv_bytes
    assert kv <= limit * GIB
    # 50 sliding layers of 4 KV heads, 10 global ones of 1 KV head with 640 values a token
    assert kv == 2 * (50 * 4 * 1024 * 2 * 256 + 10 * 1 * length * 640)


def test_weights_are_those_of_the_checkpoint_and_the_second_copy_of_the_embedding():
    plan = _plan(1, 2048)[2]
    values = sum(torch.Size(shape).numel() for shape in text_shapes(CONFIG_31B).values())
    assert plan.weight_bytes == 2 * (values + 262144 * 5376)


def test_the_vision_bundle_counts():
    text, both = _plan(1, 2048)[2], _plan(1, 2048, bundles=("text", "vision"))[2]
    values = sum(torch.Size(shape).numel() for shape in vision_shapes(CONFIG_31B).values())
    assert both.weight_bytes - text.weight_bytes == 2 * values


def test_the_31b_fits_four_cores_of_a_trn2_and_the_plan_says_so():
    config, neuron_config, plan = _plan(4, 8192)
    plan.check(config, neuron_config)
    line = plan.describe()
    assert "trn2, 24 GiB, 4 cores" in line and f"weights {plan.weight_bytes / GIB:.2f} GiB" in line
    assert (
        f"KV cache {plan.kv_bytes / GIB:.2f} GiB" in line and f"{plan.host_export_bytes / GIB:.2f} GiB to ex" in line
    )


@pytest.mark.parametrize(
    ("tp", "length", "batch", "target", "advice"),
    [
        (1, 2048, 1, "trn2", "--tensor_parallel_size 4 fits"),
        (4, 2048, 1, "trn1", "--tensor_parallel_size 8 fits"),
        (4, 32768, 24, "trn2", "--tensor_parallel_size 8 fits"),
        (32, 262144, 64, "trn1", "no --tensor_parallel_size fits"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_arguments_to_change(tp, length, batch, target, advice):
    config, neuron_config, plan = _plan(tp, length, batch, target)
    with pytest.raises(ValueError) as refusal:
        plan.check(config, neuron_config)
    message = str(refusal.value)
    assert advice in message and f"--sequence_length {length}" in message and f"--batch_size {batch}" in message


def test_what_is_advised_fits():
    config, neuron_config, _ = _plan(1, 2048)
    assert plan_memory(config, neuron_config, TEXT, 4).fits()
    assert not plan_memory(config, neuron_config, TEXT, 2).fits()


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_a_tenth_of_the_core_is_kept(target):
    usable = int(0.9 * CORE_BYTES[target])
    assert MemoryPlan(target, TEXT, 1, usable - 10, 10).fits()
    assert not MemoryPlan(target, TEXT, 1, usable - 10, 12).fits()


def test_a_size_that_cannot_split_the_model_is_refused_by_name():
    config = Gemma4Config.from_dict(small_config())
    neuron_config = Gemma4NeuronConfig(
        batch_size=1, sequence_length=64, tp_degree=3, torch_dtype=torch.float32, target="trn2"
    )
    with pytest.raises(ValueError, match="--tensor_parallel_size 3"):
        plan_memory(config, neuron_config, TEXT)
