# SPDX-License-Identifier: Apache-2.0
"""`optimum-cli export neuron` in processes of its own: what it writes, and how it fails.

What needs no process of its own (every option, every refusal) is in test_main.py; that a new process answers from the
artifact alone is seen in the tests of README.md.
"""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from commands import SHAPES, optimum_cli, read_json

from optimum_gemma4 import NeuronModelForCausalLM


def test_the_export_says_what_it_does_and_writes_a_whole_artifact(cli_export, tiny_checkpoint):
    """Without --task: the checkpoint has a vision encoder, so text and vision are exported."""
    finished, output = cli_export
    assert finished.status == 0, finished.err
    assert finished.err.count("Simulating the Neuron SDK") == 1
    assert "Memory per NeuronCore (trn2, 24 GiB, 2 cores): weights" in finished.err
    assert "at 140 soft tokens" in finished.err and f"for image-text-to-text to {output}" in finished.err
    assert {path.name for path in output.iterdir()} == {
        "checkpoint",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model_text.pt",
        "model_vision.pt",
        "neuron_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.relative_to(output).as_posix() for path in output.rglob("*.safetensors")} == {
        f"checkpoint/{bundle}/weights/tp{rank}_sharded_checkpoint.safetensors"
        for bundle in ("text", "vision")
        for rank in range(2)
    }
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    recorded = read_json(output / "neuron_config.json")
    assert recorded["backend"] == "simulator" and recorded["tp_degree"] == 2 and recorded["torch_dtype"] == "bfloat16"
    assert recorded["max_soft_tokens"] == [70, 140] and recorded["max_images"] is None
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "processor_config.json"):
        assert (output / name).read_bytes() == (tiny_checkpoint / name).read_bytes()


def test_a_failed_export_ends_with_its_status_and_one_line(text_checkpoint, tmp_path):
    """The child's exit status is the command's, without a CalledProcessError of the parent."""
    wrong = ("--tensor_parallel_size", 3)
    finished = optimum_cli(
        "export", "neuron", "--model", text_checkpoint, *SHAPES, *wrong, tmp_path / "out", cwd=tmp_path
    )
    assert finished.status == 1
    assert re.search(r"error: --tensor_parallel_size 3 .*use one of \[1, 2, 4\]", finished.last_line), finished.err
    assert "Traceback" not in finished.err and list(tmp_path.iterdir()) == []


def _terminated_export(checkpoint: Path, folder: Path) -> int:
    """The status of an export that gets SIGTERM as soon as it has begun to write; 0 if it was done before."""
    folder.mkdir()
    command = [sys.executable, "-m", "optimum_gemma4.exporters", "--model", str(checkpoint), *SHAPES]
    process = subprocess.Popen([*command, str(folder / "out")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.iterdir()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    return process.wait(60)


def test_an_export_that_is_terminated_leaves_nothing(text_checkpoint, tmp_path):
    for attempt in range(5):  # a small export may be done before the signal is handled
        folder = tmp_path / str(attempt)
        status = _terminated_export(text_checkpoint, folder)
        if status != 0:
            break
    assert status == 143
    assert list(folder.iterdir()) == []


def test_another_architecture_is_exported_by_optimum_neuron_as_before(tmp_path, monkeypatch):
    """A llama through the same command: optimum-neuron's own class, and transformers' own tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=512, max_position_embeddings=128, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    reference = LlamaForCausalLM(config).eval()
    reference.save_pretrained(tmp_path / "llama")
    arguments = ("--model", tmp_path / "llama", "--task", "text-generation", *SHAPES, "--tensor_parallel_size", 2)
    finished = optimum_cli("export", "neuron", *arguments, tmp_path / "out", cwd=tmp_path)
    assert finished.status == 0, finished.err
    model = NeuronModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(model).__module__.startswith("optimum.neuron.")
    prompt = torch.tensor([[5, 17, 300, 42, 9]])
    expected = reference.generate(prompt, max_new_tokens=16, do_sample=False, pad_token_id=0)
    assert torch.equal(model.generate(prompt, max_new_tokens=16, do_sample=False, pad_token_id=0), expected)
