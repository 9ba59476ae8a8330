# SPDX-License-Identifier: Apache-2.0
"""Export, save and load of text models: what an artifact holds, and what refuses one that cannot run here."""

import json
import shutil

import pytest
import torch
from causal_lm_calls import CONTINUOUS, ON_DEVICE, prefill, prompt
from random_models import STOP_IDS, write_random_checkpoint
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from optimum_gemma4 import NeuronModelForCausalLM
from optimum_gemma4.modeling.causal_lm import Gemma4NeuronModelForCausalLM


def test_the_artifact_holds_what_loading_needs(exports, random_checkpoint):
    folder = exports.artifact(random_checkpoint, **ON_DEVICE)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == [
        "checkpoint/weights/tp0_sharded_checkpoint.safetensors",
        "checkpoint/weights/tp1_sharded_checkpoint.safetensors",
        "config.json",
        "generation_config.json",
        "model.pt",
        "neuron_config.json",
    ]
    assert str(random_checkpoint) not in (folder / "config.json").read_text()
    assert AutoConfig.from_pretrained(folder).dtype == torch.float32


def test_tracing_reads_no_weights(tmp_path, random_checkpoint):
    """A checkpoint without its weight files can be compiled, not loaded."""
    bare = shutil.copytree(random_checkpoint, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    neuron_config = Gemma4NeuronModelForCausalLM.get_neuron_config(
        bare, instance_type="trn2", batch_size=1, sequence_length=16, tensor_parallel_size=1
    )
    model = NeuronModelForCausalLM.export(str(bare), neuron_config=neuron_config)
    with pytest.raises(ValueError, match="holds no weights .* export the checkpoint again"):
        model.load_weights(bare)


def test_a_loaded_model_can_be_saved_again(exports, random_checkpoint, tmp_path, host):
    host.save_pretrained(str(tmp_path / "again"))
    again = NeuronModelForCausalLM.from_pretrained(str(tmp_path / "again"))
    assert torch.equal(prefill(again, prompt(9)), prefill(host, prompt(9)))


def test_weights_beside_the_graphs_in_the_hubs_layout_are_sharded_while_loading(
    exports, random_checkpoint, tmp_path, host
):
    folder = shutil.copytree(exports.artifact(random_checkpoint, **CONTINUOUS), tmp_path / "hub")
    shutil.rmtree(folder / "checkpoint")
    shutil.copy(random_checkpoint / "model.safetensors", folder)
    loaded = NeuronModelForCausalLM.from_pretrained(str(folder))
    # Weights at other addresses take other paths through the matrix products.
    torch.testing.assert_close(prefill(loaded, prompt(9)), prefill(host, prompt(9)), atol=1e-5, rtol=0)


def test_exported_with_weights_it_runs_at_once(random_checkpoint, host):
    neuron_config = host.neuron_config
    model = NeuronModelForCausalLM.export(str(random_checkpoint), neuron_config=neuron_config, load_weights=True)
    torch.testing.assert_close(prefill(model, prompt(9)), prefill(host, prompt(9)), atol=1e-5, rtol=0)


def test_generation_defaults_are_the_checkpoints(host):
    assert host.generation_config.eos_token_id == STOP_IDS
    assert host.generation_config.top_k == 64


def test_generation_defaults_come_from_the_configuration_without_a_file(exports, random_checkpoint, tmp_path):
    folder = shutil.copytree(exports.artifact(random_checkpoint, **CONTINUOUS), tmp_path / "bare")
    (folder / "generation_config.json").unlink()
    assert NeuronModelForCausalLM.from_pretrained(str(folder)).generation_config.eos_token_id == 1


@pytest.fixture
def broken(exports, random_checkpoint, tmp_path):
    """A copy of an artifact, to be damaged."""
    return shutil.copytree(exports.artifact(random_checkpoint, **CONTINUOUS), tmp_path / "broken")


def change_neuron_config(folder, **values) -> None:
    path = folder / "neuron_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.pt").unlink(), "not a complete export: model.pt missing"),
        (lambda folder: (folder / "neuron_config.json").unlink(), "has no neuron_config.json: it is not an exported"),
        (lambda folder: shutil.rmtree(folder / "checkpoint"), "holds no weights"),
        (lambda folder: change_neuron_config(folder, backend="neuron"), "compiled by the neuron backend"),
        (lambda folder: change_neuron_config(folder, target="trn1"), "compiled for trn1 and this is a trn2 instance"),
        (
            lambda folder: change_neuron_config(folder, tp_degree=4096, local_ranks_size=4096),
            "needs 4096 Neuron cores and .* export again with --tensor_parallel_size",
        ),
    ],
    ids=["no graphs", "not exported", "no weights", "backend", "instance", "cores"],
)
def test_an_artifact_that_cannot_run_here_is_refused(broken, damage, message):
    damage(broken)
    with pytest.raises(ValueError, match=message):
        NeuronModelForCausalLM.from_pretrained(str(broken))


def test_a_damaged_rank_file_is_named(broken):
    (broken / "checkpoint/weights/tp0_sharded_checkpoint.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="tp0_sharded_checkpoint"):
        NeuronModelForCausalLM.from_pretrained(str(broken))


def test_unknown_arguments_are_refused(exports, random_checkpoint):
    folder = exports.artifact(random_checkpoint, **CONTINUOUS)
    with pytest.raises(ValueError, match="'load_in_8bit'.* not supported"):
        NeuronModelForCausalLM.from_pretrained(str(folder), load_in_8bit=True)


def test_a_parallel_size_that_does_not_divide_the_model_is_refused_with_those_that_do(random_checkpoint):
    neuron_config = Gemma4NeuronModelForCausalLM.get_neuron_config(
        random_checkpoint, instance_type="trn2", sequence_length=16, tensor_parallel_size=3
    )
    with pytest.raises(ValueError, match=r"--tensor_parallel_size 3 .* use one of \[1, 2, 4\]"):
        NeuronModelForCausalLM.export(str(random_checkpoint), neuron_config=neuron_config)


def test_a_multimodal_configuration_is_reduced_to_its_text_model(tmp_path, exports, random_checkpoint, host):
    """The same weights under the multimodal names, in a checkpoint that also names a vision encoder."""
    multimodal = tmp_path / "multimodal"
    multimodal.mkdir()
    text = json.loads((random_checkpoint / "config.json").read_text())
    config = {"model_type": "gemma4", "dtype": "float32", "text_config": text, "vision_config": {}}
    (multimodal / "config.json").write_text(json.dumps(config))
    tensors = load_file(random_checkpoint / "model.safetensors")
    renamed = {name.replace("model.", "model.language_model.", 1): value for name, value in tensors.items()}
    save_file(renamed, multimodal / "model.safetensors", metadata={"format": "pt"})
    model = exports.model(multimodal, **CONTINUOUS)
    assert model.config.model_type == "gemma4_text"
    torch.testing.assert_close(prefill(model, prompt(9)), prefill(host, prompt(9)), atol=1e-5, rtol=0)


def test_defaults_of_the_neuron_configuration(random_checkpoint):
    config = NeuronModelForCausalLM.get_neuron_config(
        str(random_checkpoint), instance_type="inf2", batch_size=4, sequence_length=512, tensor_parallel_size=2
    )
    assert type(config).__name__ == "Gemma4NeuronConfig"
    assert config.torch_dtype == torch.float32 and config.target == "trn1"
    assert config.on_device_sampling and config.continuous_batching and config.nki_kernels
    assert config.prefill_buckets == [128, 512]
    changed = Gemma4NeuronModelForCausalLM.get_neuron_config(
        random_checkpoint, instance_type="trn2", sequence_length=512, tensor_parallel_size=2, torch_dtype="bfloat16",
        prefill_buckets=[64, 256], nki_kernels=False, on_device_sampling=False,
    )  # fmt: skip
    assert (changed.torch_dtype, changed.max_context_length) == (torch.bfloat16, 256)
    assert not changed.on_device_sampling and not changed.continuous_batching and not changed.nki_kernels


def test_bfloat16_weights_are_kept(tmp_path, exports):
    checkpoint = write_random_checkpoint(tmp_path / "bf16", dtype="bfloat16")
    model = exports.model(checkpoint, on_device_sampling=False)
    assert model.neuron_config.torch_dtype == torch.bfloat16
    assert prefill(model, prompt(9)).dtype == torch.float32
