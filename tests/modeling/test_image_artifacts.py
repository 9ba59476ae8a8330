# SPDX-License-Identifier: Apache-2.0
"""Artifacts with two bundles: what they hold, the public auto class, and loading with the wrong class or parts."""

import importlib.util
import inspect
import json
import shutil

import pytest
import torch
from image_prompts import SMALL_EXPORT, Image, pixels_of, processed
from optimum.neuron.models.auto_model import get_neuron_model_class
from optimum.neuron.models.inference import modeling_utils
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import optimum_gemma4
from optimum_gemma4 import Gemma4NeuronConfig, NeuronModelForCausalLM, NeuronModelForImageTextToText
from optimum_gemma4.exporters.checkpoint import shard_file_name
from optimum_gemma4.modeling import auto_image_text_to_text
from optimum_gemma4.modeling.causal_lm import Gemma4NeuronModelForCausalLM
from optimum_gemma4.modeling.image_text_to_text import Gemma4NeuronModelForImageTextToText


SHAPES = {"instance_type": "trn2", "batch_size": 1, "sequence_length": 96, "tensor_parallel_size": 2}
PROMPT = [3, Image(2, 3), 2]
GREEDY = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}


@pytest.fixture(scope="module")
def artifact(image_exports, image_checkpoint):
    return image_exports.artifact(image_checkpoint, **SMALL_EXPORT)


@pytest.fixture(scope="module")
def model(image_exports, image_checkpoint):
    return image_exports.model(image_checkpoint, **SMALL_EXPORT)


@pytest.fixture(scope="module")
def tokens(model):
    return model.generate(**processed(PROMPT), **GREEDY)


@pytest.fixture
def broken(artifact, tmp_path):
    """A copy to damage."""
    shutil.copytree(artifact, tmp_path / "broken")
    return tmp_path / "broken"


def test_an_artifact_holds_two_bundles_and_their_weights(artifact):
    files = {str(path.relative_to(artifact)) for path in artifact.rglob("*") if path.is_file()}
    weights = {
        f"checkpoint/{bundle}/weights/{shard_file_name(rank)}" for bundle in ("vision", "text") for rank in (0, 1)
    }
    assert {"model_vision.pt", "model_text.pt", "config.json", "neuron_config.json", *weights} <= files
    assert "model.pt" not in files
    with safe_open(artifact / "checkpoint" / "vision" / "weights" / shard_file_name(0), "pt") as vision:
        assert all(name.startswith(("vision_tower.", "embed_vision.")) for name in vision.keys())
        query = vision.get_slice("vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight")
        assert query.get_shape() == [16, 32]  # 2 of 4 heads
    assert json.loads((artifact / "config.json").read_text())["vision_config"]["hidden_size"] == 32


def test_the_graphs_hold_no_weights(artifact, image_checkpoint):
    """They come from the rank files: both bundles together are smaller than the checkpoint alone."""
    bundles = sum((artifact / f"model_{name}.pt").stat().st_size for name in ("vision", "text"))
    assert bundles < 2 * (image_checkpoint / "model.safetensors").stat().st_size


def test_a_loaded_model_can_be_saved_again(model, tokens, tmp_path):
    model.save_pretrained(str(tmp_path))
    again = NeuronModelForImageTextToText.from_pretrained(str(tmp_path))
    assert again.generate(**processed(PROMPT), **GREEDY).equal(tokens)


def test_weights_beside_the_graphs_in_the_hubs_layout_are_sharded_while_loading(broken, image_checkpoint, tokens):
    shutil.rmtree(broken / "checkpoint")
    shutil.copy(image_checkpoint / "model.safetensors", broken)
    model = NeuronModelForImageTextToText.from_pretrained(str(broken))
    assert model.generate(**processed(PROMPT), **GREEDY).equal(tokens)


# --- classes ---------------------------------------------------------------------------------------------------------


def test_the_auto_class_finds_the_models_class(model):
    assert type(model) is Gemma4NeuronModelForImageTextToText
    assert isinstance(model, NeuronModelForImageTextToText) and inspect.isabstract(NeuronModelForImageTextToText)
    assert get_neuron_model_class("gemma4", "image-text-to-text", "inference") is type(model)
    assert type(model).task == NeuronModelForImageTextToText.task == "image-text-to-text"


def test_where_optimum_neuron_has_an_auto_class_of_that_name_ours_is_one_of_its_kind(monkeypatch):
    """0.4.5 has none, its main branch has: the module is loaded once more beside such a class."""

    class Upstream(modeling_utils.NeuronPreTrainedModel):
        task = "image-text-to-text"

    monkeypatch.setattr(modeling_utils, "NeuronModelForImageTextToText", Upstream, raising=False)
    spec = importlib.util.spec_from_file_location("loaded_again", auto_image_text_to_text.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert issubclass(module.NeuronModelForImageTextToText, Upstream)
    assert not issubclass(NeuronModelForImageTextToText, Upstream)


def test_public_names():
    assert {"NeuronModelForImageTextToText", "Gemma4Processor", "Gemma4ImageProcessor"} <= set(optimum_gemma4.__all__)
    for name in optimum_gemma4.__all__:
        assert getattr(optimum_gemma4, name) is not None


def test_the_causal_class_loads_an_image_artifact_as_what_it_is(artifact, model, tokens):
    """As transformers: text prompts work on a model that also takes images."""
    loaded = NeuronModelForCausalLM.from_pretrained(str(artifact))
    assert type(loaded) is Gemma4NeuronModelForImageTextToText
    assert loaded.generate(**processed(PROMPT), **GREEDY).equal(tokens)


def test_a_text_artifact_is_not_loaded_for_images(exports, image_checkpoint):
    folder = str(exports.artifact(image_checkpoint, sequence_length=192, batch_size=3, on_device_sampling=False))
    with pytest.raises(ValueError, match="gemma4_text takes no images.*NeuronModelForCausalLM.*--task"):
        NeuronModelForImageTextToText.from_pretrained(folder)
    with pytest.raises(ValueError, match="max_soft_tokens is None.*needs the image budgets"):
        Gemma4NeuronModelForImageTextToText.from_pretrained(folder)


def test_a_checkpoint_without_a_vision_encoder_is_not_exported_for_images(
    image_checkpoint, random_checkpoint, tmp_path
):
    with pytest.raises(ValueError, match="gemma4_text takes no images"):
        NeuronModelForImageTextToText.get_neuron_config(str(random_checkpoint), **SHAPES)
    config = json.loads((image_checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vision_config": None}))
    with pytest.raises(ValueError, match="gemma4 model has no vision_config: export it for text-generation"):
        NeuronModelForImageTextToText.get_neuron_config(str(tmp_path), **SHAPES)


def test_configurations_of_the_other_task_are_refused(image_checkpoint):
    folder = str(image_checkpoint)
    with pytest.raises(ValueError, match=r"max_soft_tokens is \[70\]: text-generation takes no images"):
        Gemma4NeuronModelForCausalLM.get_neuron_config(folder, **SHAPES, max_soft_tokens=70)
    images = NeuronModelForImageTextToText.get_neuron_config(folder, **SHAPES)
    with pytest.raises(ValueError, match=r"max_soft_tokens is \[70\]: text-generation takes no images"):
        NeuronModelForCausalLM.export(folder, neuron_config=images)
    text = NeuronModelForCausalLM.get_neuron_config(folder, **SHAPES)
    with pytest.raises(ValueError, match="max_soft_tokens is None"):
        NeuronModelForImageTextToText.export(folder, text)


def test_defaults_of_the_neuron_configuration(image_checkpoint, tmp_path):
    config = NeuronModelForImageTextToText.get_neuron_config(str(image_checkpoint), **SHAPES)
    assert isinstance(config, Gemma4NeuronConfig)
    assert (config.max_soft_tokens, config.max_images) == ([70], None)
    assert config.on_device_sampling and config.sequence_length == 96 and config.tp_degree == 2
    values = json.loads((image_checkpoint / "config.json").read_text())
    del values["vision_soft_tokens_per_image"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    long = {**SHAPES, "sequence_length": 512}
    assert NeuronModelForImageTextToText.get_neuron_config(str(tmp_path), **long).max_soft_tokens == [280]
    values["vision_config"]["default_output_length"] = 140
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert NeuronModelForImageTextToText.get_neuron_config(str(tmp_path), **long).max_soft_tokens == [140]
    chosen = {"max_soft_tokens": [280, 70], "max_images": 4}
    config = NeuronModelForImageTextToText.get_neuron_config(str(tmp_path), **long, **chosen)
    assert (config.max_soft_tokens, config.max_images) == ([70, 280], 4)
    del long["sequence_length"]  # the text model's max_position_embeddings
    assert NeuronModelForImageTextToText.get_neuron_config(str(tmp_path), **long).sequence_length == 512


@pytest.mark.parametrize("tp", [3, 8])
def test_a_parallel_size_that_does_not_divide_a_tower_is_refused_before_tracing(image_checkpoint, tp):
    """4 query heads of the text model, 4 heads of the vision encoder."""
    neuron_config = NeuronModelForImageTextToText.get_neuron_config(
        str(image_checkpoint), **{**SHAPES, "tensor_parallel_size": tp}
    )
    with pytest.raises(ValueError, match=f"--tensor_parallel_size {tp}.*use one of"):
        NeuronModelForImageTextToText.export(str(image_checkpoint), neuron_config)


def test_a_parallel_size_that_divides_the_text_model_alone_is_refused(image_checkpoint, tmp_path):
    values = json.loads((image_checkpoint / "config.json").read_text())
    values["vision_config"] |= {"num_attention_heads": 3, "num_key_value_heads": 3}
    (tmp_path / "config.json").write_text(json.dumps(values))
    neuron_config = NeuronModelForImageTextToText.get_neuron_config(str(tmp_path), **SHAPES)
    with pytest.raises(ValueError, match=r"--tensor_parallel_size 2 cannot split the 3 heads.*vision encoder"):
        NeuronModelForImageTextToText.export(str(tmp_path), neuron_config)


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model_vision.pt").unlink(), "model_vision.pt missing"),
        (lambda f: (f / "model_text.pt").write_bytes(b"cut"), "model_text.pt is cut short"),
        (lambda f: shutil.rmtree(f / "checkpoint" / "vision"), "vision/weights/tp0_sharded.* is missing"),
        (lambda f: (f / "checkpoint" / "text" / "weights" / shard_file_name(1)).unlink(), "text/weights/tp1.*missing"),
    ],
)
def test_an_artifact_that_lacks_a_part_is_refused_by_name(broken, damage, message):
    damage(broken)
    with pytest.raises(ValueError, match=message):
        NeuronModelForImageTextToText.from_pretrained(str(broken))


@pytest.mark.parametrize("layout", ["sharded", "hub"])
def test_weights_that_lack_a_bundle_leave_the_loaded_ones_in_place(
    model, tokens, broken, image_checkpoint, tmp_path, layout
):
    """Vision weights are there, and would be loaded first; those of the text model are not."""
    if layout == "sharded":
        shutil.rmtree(broken / "checkpoint" / "text")
        (vision,) = (broken / "checkpoint" / "vision" / "weights").glob("tp0*")
        zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(vision).items()}
        save_file(zeros, vision)
        source = broken
    else:
        tensors = load_file(image_checkpoint / "model.safetensors")
        del tensors["model.language_model.norm.weight"]
        source = tmp_path / "hub"
        source.mkdir()
        save_file({name: tensor * 0 for name, tensor in tensors.items()}, source / "model.safetensors")
    with pytest.raises(ValueError, match="is missing|1 missing: model.language_model.norm.weight"):
        model.load_weights(source)
    assert model.generate(**processed(PROMPT), **GREEDY).equal(tokens)


def test_exported_with_weights_it_runs_at_once_in_bfloat16_too(image_checkpoint, model):
    options = {**SHAPES, "torch_dtype": "bfloat16", "tensor_parallel_size": 1}
    neuron_config = NeuronModelForImageTextToText.get_neuron_config(str(image_checkpoint), **options)
    rounded = NeuronModelForImageTextToText.export(str(image_checkpoint), neuron_config, load_weights=True)
    media = pixels_of([Image(2, 3)])
    (features,), (exact,) = rounded.get_image_features(**media), model.get_image_features(**media)
    assert features.dtype == torch.bfloat16
    assert torch.cosine_similarity(features.float(), exact, dim=1).min() > 0.999
    assert rounded.generate(**processed(PROMPT), **GREEDY).shape == (1, processed(PROMPT)["input_ids"].shape[1] + 8)
