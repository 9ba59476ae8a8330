# SPDX-License-Identifier: Apache-2.0
"""The real command line, in processes of their own: export, load in another process, answer; and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from random_models import write_random_checkpoint


CLI = Path(sys.executable).parent / "optimum-cli"
LENGTH = 96
ASK = """
import sys
from transformers import AutoTokenizer
from optimum_gemma4 import NeuronModelForCausalLM
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = NeuronModelForCausalLM.from_pretrained(sys.argv[1])
messages = [{"role": "user", "content": sys.argv[2]}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
tokens = model.generate(**inputs, max_new_tokens=30, do_sample=False)
sys.stdout.write(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """`arguments` in a fresh process, from a folder that is not the repository's."""
    environment = {name: value for name, value in os.environ.items() if name != "OPTIMUM_GEMMA4_BACKEND"}
    return subprocess.run(
        [str(argument) for argument in arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )


def export(model: object, out: Path, *options: str, tp: int = 1) -> subprocess.CompletedProcess:
    """`optimum-cli export neuron`, with the options that are always needed off a device."""
    shapes = ("--batch_size", 1, "--sequence_length", LENGTH, "--tensor_parallel_size", tp)
    return run(
        CLI, "export", "neuron", "--model", model, "--instance_type", "trn2", *shapes, *options, out, cwd=out.parent
    )


def test_export_then_load_in_a_new_process(tiny_checkpoint, tmp_path):
    out = tmp_path / "artifact with spaces"
    done = export(tiny_checkpoint, out, "--task", "text-generation", tp=2)
    assert done.returncode == 0, done.stderr
    assert "Memory per NeuronCore" in done.stderr and "Traceback" not in done.stderr
    answer = run(sys.executable, "-c", ASK, out, "What is the capital of France?", cwd=tmp_path)
    assert answer.stdout == "The capital of France is Paris.", answer.stderr
    neuron_config = json.loads((out / "neuron_config.json").read_text())
    assert neuron_config["tp_degree"] == 2 and neuron_config["torch_dtype"] == "bfloat16"
    assert neuron_config["backend"] == "simulator"


def test_a_dtype_that_is_asked_for(tmp_path):
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint")
    done = export(checkpoint, tmp_path / "out", "--torch_dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "neuron_config.json").read_text())["torch_dtype"] == "bfloat16"


def test_help_shows_the_options_of_both(tmp_path):
    done = run(CLI, "export", "neuron", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for flag in ("--prefill_buckets", "--no_on_device_sampling", "--tensor_parallel_size", "--auto_cast"):
        assert flag in done.stdout


def _refused(done: subprocess.CompletedProcess, out: Path, *words: str) -> None:
    assert done.returncode not in (0, None)
    last = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in last, done.stderr
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("cli") / "checkpoint")


def test_tensor_parallel_size_that_does_not_divide(checkpoint, tmp_path):
    _refused(export(checkpoint, tmp_path / "out", tp=3), tmp_path / "out", "--tensor_parallel_size", "3")


def test_folder_that_does_not_exist(tmp_path):
    _refused(export("./nowhere/at/all", tmp_path / "out"), tmp_path / "out", "--model", "nowhere")


def test_dtype_that_does_not_exist(checkpoint, tmp_path):
    _refused(export(checkpoint, tmp_path / "out", "--torch_dtype", "float7"), tmp_path / "out", "float7")


def test_truncated_weights(tmp_path):
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint")
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    _refused(export(checkpoint, tmp_path / "out"), tmp_path / "out", "model.safetensors")


def test_output_that_is_a_file(checkpoint, tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")
    done = export(checkpoint, out)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert str(out) in done.stderr.strip().splitlines()[-1]
    assert out.read_text() == "mine"


def test_another_architecture_is_exported_by_optimum_neuron_as_before(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=512, max_position_embeddings=128,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    done = export(tmp_path / "llama", tmp_path / "out", "--task", "text-generation")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "llama"
    assert (tmp_path / "out" / "model.pt").is_file()
