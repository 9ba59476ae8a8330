# SPDX-License-Identifier: Apache-2.0
"""The memory plan: the 31B's known sizes, the limits of the cores, and what a refusal advises."""

import pytest
import torch
from checkpoints import CONFIG_31B, small_config, text_shapes, vision_shapes

from optimum_gemma4 import Gemma4Config, Gemma4NeuronConfig
from optimum_gemma4.exporters.memory_planner import CORE_BYTES, MemoryPlan, plan_memory
from optimum_gemma4.exporters.wording import GIB


TEXT, BOTH = ("text",), ("text", "vision")


def _plan(tp: int, length: int, batch: int = 1, target: str = "trn2", bundles=TEXT, **options) -> tuple:
    config = Gemma4Config.from_dict(CONFIG_31B)
    if bundles == BOTH:
        options = {"max_soft_tokens": [280], **options}
    neuron_config = Gemma4NeuronConfig(
        batch_size=batch, sequence_length=length, tp_degree=tp, torch_dtype=torch.bfloat16, target=target, **options
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


@pytest.mark.parametrize("tp", [1, 4])
def test_the_vision_encoders_weights_count(tp):
    text, both = _plan(tp, 2048)[2], _plan(tp, 2048, bundles=BOTH)[2]
    shapes = vision_shapes(CONFIG_31B)
    cut = {name for name in shapes if ".linear.weight" in name}  # the others are on every core
    values = sum(torch.Size(shape).numel() // (tp if name in cut else 1) for name, shape in shapes.items())
    assert both.weight_bytes - text.weight_bytes == both.images.weight_bytes == 2 * values
    assert text.images is None and text.core_bytes == text.weight_bytes + text.kv_bytes


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, {128: 128, 512: 512, 2048: 2048}),
        ({"max_images": 1}, {128: 128, 512: 280, 2048: 280}),
        ({"max_images": 3, "max_soft_tokens": [70, 560]}, {128: 128, 512: 512, 2048: 1680}),
    ],
)
def test_image_features_count_by_prefill_graph(options, rows):
    plan = _plan(4, 2048, bundles=BOTH, **options)[2]
    assert plan.images.feature_bytes == {length: 2 * 5376 * count for length, count in rows.items()}


def test_vision_activations_grow_with_the_square_of_the_budget_until_queries_are_cut_into_blocks():
    sizes = [
        _plan(4, 2048, bundles=BOTH, max_soft_tokens=[n])[2].images.activation_bytes for n in (70, 140, 280, 1120)
    ]
    # 4 heads' scores of 2520 queries and keys, in fp32 and cast; pixels and the residual of 1152
    assert sizes[2] == 4 * 2520 * 2520 * 6 + 2520 * (768 * 4 + 1152 * 2)
    assert sizes[1] > 2 * sizes[0] and sizes[2] > 3 * sizes[1] and sizes[3] < 5 * sizes[2]


def test_images_add_the_larger_of_encoding_and_prefill():
    small = _plan(4, 512, bundles=BOTH)[2]
    assert small.images.run_bytes == small.images.activation_bytes
    long = _plan(4, 32768, bundles=BOTH)[2]
    assert long.images.run_bytes == 2 * 5376 * 32768
    assert long.core_bytes == long.weight_bytes + long.kv_bytes + long.images.run_bytes


def test_the_plan_says_what_images_take():
    line = _plan(4, 2048, bundles=BOTH, max_images=1)[2].describe()
    assert "GiB (0.31 GiB of them vision)" in line and "vision activations about 0.15 GiB at 280 soft tokens" in line
    assert "image features by prefill graph (128: 1.31 MiB, 512: 2.87 MiB, 2048: 2.87 MiB)" in line
    assert "vision" not in _plan(4, 2048)[2].describe()


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


@pytest.mark.parametrize(
    ("length", "options", "advice"),
    [
        (300_000, {}, "--batch_size 1 or limit the images of a prompt with --max_images"),
        (300_000, {"max_images": 2000}, "--batch_size 1 or --max_images 2000"),
        (480_000, {"max_soft_tokens": [70, 1120], "max_images": 1}, "--batch_size 1 or --max_soft_tokens 70,1120"),
        (600_000, {}, "--batch_size 1"),  # without images it would not fit either
    ],
)
def test_images_that_do_not_fit_are_refused_with_the_option_to_change(length, options, advice):
    config, neuron_config, plan = _plan(4, length, bundles=BOTH, **options)
    with pytest.raises(ValueError) as refusal:
        plan.check(config, neuron_config)
    assert str(refusal.value).endswith(advice)


def test_an_advised_size_splits_the_vision_encoder_too():
    """Its 16 heads cannot be split over 32 cores, where the text model can."""
    config, neuron_config, plan = _plan(16, 262144, 48, bundles=BOTH)
    with pytest.raises(ValueError, match="no --tensor_parallel_size fits"):
        plan.check(config, neuron_config)
    assert _plan(32, 262144, 48)[2].tp_degree == 32


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
