# SPDX-License-Identifier: Apache-2.0
"""The declared graphs, against the shapes written out, and that tracing is fed from the declaration."""

import pytest
import torch
from optimum.exporters.tasks import TasksManager

from optimum_gemma4 import Gemma4Config, Gemma4NeuronConfig
from optimum_gemma4.exporters.bundles import text_graph_builders, vision_graph_builders
from optimum_gemma4.exporters.export_config import Gemma4NeuronExportConfig, Gemma4TextNeuronExportConfig


TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "hidden_size_per_layer_input": 0,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
}
CONFIG = Gemma4Config(text_config=TEXT, vision_config={"patch_size": 16, "pooling_kernel_size": 3})


def neuron_config(**changes) -> Gemma4NeuronConfig:
    shapes = {"batch_size": 3, "sequence_length": 640, "prefill_buckets": [16, 600], "torch_dtype": torch.bfloat16}
    return Gemma4NeuronConfig(**{**shapes, "max_soft_tokens": [70, 280], "max_images": 2, **changes})


def shapes(specs) -> dict:
    return {spec.name: (spec.shape, spec.dtype) for spec in specs}


def test_text_graphs_are_declared_per_bucket_and_one_for_decoding():
    graphs = Gemma4TextNeuronExportConfig(CONFIG, "text-generation", neuron_config()).bundles()["text"]
    assert [graph.name for graph in graphs] == ["context_encoding_16", "context_encoding_600", "token_generation"]
    for graph, length in zip(graphs, (16, 600, 1)):
        assert shapes(graph.inputs) == {
            "input_ids": ((3, length), torch.int32),
            "position_ids": ((3, length), torch.int32),
            "seq_ids": ((3,), torch.int32),
            "sampling_params": ((3, 3), torch.float32),
        }
        assert shapes(graph.outputs) == {"logits": ((3, 1, 64), torch.float32)}


def test_continuous_batching_encodes_one_prompt_at_a_time():
    *prefill, decode = Gemma4TextNeuronExportConfig(
        CONFIG, "text-generation", neuron_config(continuous_batching=True)
    ).bundles()["text"]
    assert [graph.inputs[0].shape for graph in prefill] == [(1, 16), (1, 600)]
    assert decode.inputs[0].shape == (3, 1)


@pytest.mark.parametrize(("output_logits", "names"), [(False, ["tokens"]), (True, ["tokens", "logits"])])
def test_on_device_sampling_returns_tokens(output_logits, names):
    declared = Gemma4TextNeuronExportConfig(
        CONFIG, "text-generation", neuron_config(on_device_sampling=True, output_logits=output_logits)
    )
    assert declared.outputs == names
    assert declared.inputs == ["input_ids", "position_ids", "seq_ids", "sampling_params"]


def test_every_graph_of_an_image_bundle_has_the_same_signature():
    declared = Gemma4NeuronExportConfig(CONFIG, "image-text-to-text", neuron_config())
    signatures = {tuple(spec.name for spec in graph.inputs) for graph in declared.bundles()["text"]}
    assert signatures == {
        ("input_ids", "position_ids", "seq_ids", "sampling_params", "image_features", "feature_index", "end")
    }
    prefill, decode = declared.prefill_graphs()[0], declared.decode_graph()
    for name in ("feature_index", "end"):
        assert shapes(prefill.inputs)[name] == ((3, 16), torch.int32)
        assert shapes(decode.inputs)[name] == ((3, 1), torch.int32)


@pytest.mark.parametrize(("max_images", "short", "long"), [(1, 16, 280), (2, 16, 560), (3, 16, 600), (None, 16, 600)])
def test_soft_tokens_have_as_many_rows_as_prompts_can_hold(max_images, short, long):
    declared = Gemma4NeuronExportConfig(CONFIG, "image-text-to-text", neuron_config(max_images=max_images))
    rows = [shapes(graph.inputs)["image_features"] for graph in declared.bundles()["text"]]
    assert rows == [((count, 32), torch.bfloat16) for count in (3 * short, 3 * long, 1)]


def test_each_image_budget_has_a_vision_graph():
    small, large = Gemma4NeuronExportConfig(CONFIG, "image-text-to-text", neuron_config()).bundles()["vision"]
    assert shapes(large.inputs) == {
        "pixel_values": ((1, 2520, 768), torch.float32),
        "image_position_ids": ((1, 2520, 2), torch.int32),
    }
    assert shapes(small.outputs) == {"features": ((1, 70, 32), torch.bfloat16)}


def test_a_text_export_of_a_multimodal_checkpoint_takes_no_images():
    declared = Gemma4NeuronExportConfig(CONFIG, "text-generation", neuron_config())
    assert list(declared.bundles()) == ["text"]
    assert len(declared.inputs) == 4


def test_another_task_is_refused():
    with pytest.raises(ValueError, match="task is 'fill-mask'.*text-generation .--task."):
        Gemma4TextNeuronExportConfig(CONFIG, "fill-mask", neuron_config())


@pytest.mark.parametrize(
    ("model_type", "task", "inputs"),
    [("gemma4_text", "text-generation", 4), ("gemma4", "text-generation", 4), ("gemma4", "image-text-to-text", 7)],
)
def test_optimum_answers_for_gemma4(model_type, task, inputs):
    tasks = TasksManager.get_supported_tasks_for_model_type(model_type, "neuron", library_name="transformers")
    assert task in tasks
    constructor = TasksManager.get_exporter_config_constructor(
        "neuron", model_type=model_type, task=task, library_name="transformers"
    )
    assert len(constructor(config=CONFIG, neuron_config=neuron_config()).inputs) == inputs


def test_a_text_model_is_not_exported_for_images():
    tasks = TasksManager.get_supported_tasks_for_model_type("gemma4_text", "neuron", library_name="transformers")
    assert "image-text-to-text" not in tasks


@pytest.mark.parametrize(
    ("task", "bundle"), [("text-generation", "text"), ("image-text-to-text", "text"), ("image-text-to-text", "vision")]
)
def test_tracing_is_fed_from_the_declaration(task, bundle):
    settings = neuron_config()
    make_builders = text_graph_builders if bundle == "text" else vision_graph_builders
    builders = make_builders(CONFIG, settings, task)
    declared = Gemma4NeuronExportConfig(CONFIG, task, settings).bundles()[bundle]
    examples = [inputs for builder in builders.values() for inputs in builder.input_generator()]
    assert [[(tuple(t.shape), t.dtype) for t in inputs] for inputs in examples] == [
        [(spec.shape, spec.dtype) for spec in graph.inputs] for graph in declared
    ]


def test_examples_leave_no_step_of_the_sampler_out():
    """The sampler branches, while tracing, on whether any temperature differs from 1 and any top_p is below 1."""
    (inputs,) = text_graph_builders(CONFIG, neuron_config())["token_generation"].input_generator()
    _, top_p, temperature = inputs[3].unbind(dim=1)
    assert (top_p < 1).all() and (temperature != 1).all() and (temperature > 0).all()
