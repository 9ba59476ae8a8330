# SPDX-License-Identifier: Apache-2.0
"""From export to generate() with kernels on and off: the same tokens, and the kernels that the artifact names.

On the SDK simulator a kernel runs as its torch twin, or on the NKI simulator with OPTIMUM_GEMMA4_NKI=simulate; both
are tried, and compared on the operands that the models really give them.
"""

import pytest
import torch
from exported_models import Exports
from image_prompts import Image, processed
from kernel_models import (
    MODELS,
    OPTIONS,
    STEPS,
    assert_kernel_equals_twin,
    calls_in_graphs,
    captured_calls,
    greedy,
    prompts,
    recorded_calls,
    smallest_gap,
    write_checkpoint,
    write_image_checkpoint,
)
from random_models import write_random_checkpoint

from optimum_gemma4 import NeuronModelForImageTextToText
from optimum_gemma4.simulator.nki_report import nki_profile


# Of logits of up to 2.5, where a bf16 ulp is 0.016. Kernels keep scores in fp32 and weights in fp16, the native
# form rounds both to bf16, as transformers does. Measured: 0.113.
LOGITS_BOUND = 0.15
# Kernel and twin, whose sums are in another order. Measured: 0.024.
TWIN_BOUND = 0.05
CASES = [
    ("256 and 512", 1),
    ("128", 2),
    pytest.param("256 and 512", 2, marks=pytest.mark.slow),
    pytest.param("128", 1, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {name: write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint", name) for name in MODELS}


@pytest.fixture
def simulate(monkeypatch):
    monkeypatch.setenv("OPTIMUM_GEMMA4_NKI", "simulate")


@pytest.mark.parametrize(("name", "tp"), CASES)
def test_the_artifact_names_the_kernels_that_its_graphs_call(exports, checkpoints, name, tp):
    artifact = exports.artifact(checkpoints[name], **OPTIONS, tensor_parallel_size=tp)
    short, long, decode = calls_in_graphs(artifact)
    layers = MODELS[name]["num_hidden_layers"]
    assert [sum(short.values()), sum(long.values()), sum(decode.values())] == [0, layers, layers]
    assert recorded_calls(artifact) == [short, long, decode]
    off = exports.artifact(checkpoints[name], **OPTIONS, tensor_parallel_size=tp, nki_kernels=False)
    assert calls_in_graphs(off) == recorded_calls(off) == [{}, {}, {}]


@pytest.mark.parametrize(("name", "tp"), CASES)
def test_kernels_change_neither_tokens_nor_accuracy(exports, checkpoints, name, tp):
    options = {**OPTIONS, "tensor_parallel_size": tp}
    on = exports.model(checkpoints[name], **options)
    off = exports.model(checkpoints[name], **options, nki_kernels=False)
    fp32 = exports.model(checkpoints[name], **options, torch_dtype="float32")
    assert on.neuron_config.nki_kernels and not off.neuron_config.nki_kernels
    errors = []
    for ids in prompts(name):
        (tokens, logits), (expected, native), (exact_tokens, exact) = (greedy(model, ids) for model in (on, off, fp32))
        assert smallest_gap(native) >= 0.06 and len(set(expected)) >= 3
        assert tokens == expected == exact_tokens
        assert 0 < (logits - native).abs().max() <= LOGITS_BOUND
        errors.append(torch.stack([logits - exact, native - exact]).square().mean((1, 2)))
    with_kernels, without = torch.stack(errors).mean(0).sqrt().tolist()
    assert with_kernels <= 1.05 * without  # no accuracy is lost


@pytest.mark.parametrize(("name", "tp"), CASES)
def test_kernels_on_the_nki_simulator_give_the_same_tokens(exports, checkpoints, name, tp, simulate, monkeypatch):
    """A whole generate(), prefill and every step, on every rank."""
    model = exports.model(checkpoints[name], **OPTIONS, tensor_parallel_size=tp)
    off = exports.model(checkpoints[name], **OPTIONS, tensor_parallel_size=tp, nki_kernels=False)
    ids, layers = prompts(name)[0], MODELS[name]["num_hidden_layers"]
    with nki_profile("trn2") as report:
        tokens, logits = greedy(model, ids)
    assert len(report.launches) == tp * layers * STEPS  # a prefill and the steps after it
    assert max(len(launch.programs) for launch in report.launches) == 2  # cores of a logical core
    assert tokens == greedy(off, ids)[0]
    monkeypatch.setenv("OPTIMUM_GEMMA4_NKI", "twin")
    with nki_profile("trn2") as report:
        twin = greedy(model, ids)[1]
    assert not report.launches
    assert (logits - twin).abs().max() <= TWIN_BOUND


@pytest.mark.parametrize("name", ["256 and 512", pytest.param("128", marks=pytest.mark.slow)])
def test_kernel_and_twin_are_equal_on_what_the_model_computes(exports, checkpoints, name, monkeypatch):
    model = exports.model(checkpoints[name], **OPTIONS)
    with captured_calls(monkeypatch) as calls:
        for ids in prompts(name)[:2]:
            greedy(model, ids)
    layers = MODELS[name]["num_hidden_layers"]
    assert len(calls) == 2 * layers * STEPS
    prefills, steps = calls[:layers], calls[layers : 3 * layers]
    full = calls[layers * STEPS : layers * (STEPS + 1)]  # the prompt that fills its graph
    for call, operands in [*prefills, *steps, *full, *calls[-layers:]]:
        assert_kernel_equals_twin(call, operands)


def test_image_blocks(tmp_path_factory, monkeypatch, exports):
    """`end` and its look-ahead are the kernel's: a prompt with two images, one of them across the window's edge."""
    folder = tmp_path_factory.mktemp("images")
    image_exports = Exports(folder, NeuronModelForImageTextToText)
    checkpoint = write_image_checkpoint(folder / "checkpoint")
    options = {**OPTIONS, "prefill_buckets": [1024], "max_soft_tokens": 70, "max_images": 2}
    on = image_exports.model(checkpoint, **options)
    artifact = image_exports.artifact(checkpoint, **options)
    assert calls_in_graphs(artifact, "model_text.pt") == recorded_calls(artifact)
    inputs = processed([30, Image(5, 9), 400, Image(6, 11, 1), 200])
    ids = inputs.pop("input_ids")
    with captured_calls(monkeypatch) as calls:
        _, logits = greedy(on, ids, **inputs)
    layers = MODELS["256 and 512"]["num_hidden_layers"]
    for index, (call, operands) in enumerate(calls[:layers]):
        end = operands[3][0, : ids.shape[1]]
        looks_ahead = (end - torch.arange(ids.shape[1])).max()
        assert looks_ahead == (65 if index < 2 else 0)  # sliding layers alone
        assert call.keywords["max_lookahead"] == (69 if index < 2 else 0)
        assert_kernel_equals_twin(call, operands)
    _, native = greedy(image_exports.model(checkpoint, **options, nki_kernels=False), ids, **inputs)
    assert (logits[0] - native[0]).abs().max() <= LOGITS_BOUND


@pytest.mark.parametrize("source", ["random", pytest.param("trained", marks=pytest.mark.slow)])
def test_head_dims_that_the_kernels_do_not_know_go_without(exports, tmp_path, tiny_checkpoint, source):
    """Kernels on or off, the graphs are the compiler's: heads of 8 and 16 dims, the tiny checkpoint's of 32 and 64."""
    checkpoint = tiny_checkpoint
    if source == "random":
        checkpoint = write_random_checkpoint(tmp_path / "checkpoint", dtype="bfloat16")
    options = {"sequence_length": 1024, "prefill_buckets": [64], "torch_dtype": "bfloat16"}
    models = [exports.model(checkpoint, **options, nki_kernels=enabled) for enabled in (True, False)]
    for model in models:
        assert {entry["runs"] for entry in model.neuron_config.attention_kernels} == {"compiler"}
    on, off = ({entry["reason"] for entry in model.neuron_config.attention_kernels} for model in models)
    assert off == {"kernels are turned off (--no_nki)"} and all("another head dim" in reason for reason in on)
    ids = torch.tensor([[2, 100, 101, 102, 103, 104]])
    first, second = (model.generate(ids, max_new_tokens=24, do_sample=False, eos_token_id=None) for model in models)
    assert first.tolist() == second.tolist()
