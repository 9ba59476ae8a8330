# SPDX-License-Identifier: Apache-2.0
"""The export command with a Hub id: configuration and side files come over the wire, the weights when it is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from exported_models import Exports
from hub_server import TOKEN, HubServer
from random_models import write_random_checkpoint


LOAD = """
import sys, torch
from optimum_gemma4 import NeuronModelForCausalLM
model = NeuronModelForCausalLM.from_pretrained(sys.argv[1])
sys.stdout.write(str(model.generate(torch.tensor([[5, 17, 42, 9]]), max_new_tokens=12, do_sample=False)[0].tolist()))
"""
SHAPES = ("--instance_type", "trn2", "--batch_size", "1", "--sequence_length", "64", "--tensor_parallel_size", "2")


def test_a_hub_id_exports_without_weights_and_loads_them_at_the_exported_commit(tmp_path):
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint")
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    files["chat_template.jinja"] = b"{{ bos_token }}"
    with HubServer() as hub:
        commit = hub.add("org/tiny", files)
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NEURON_PLATFORM_TARGET_OVERRIDE": "trn2",
        }

        def run(*command: object) -> subprocess.CompletedProcess:
            words = [str(word) for word in command]
            return subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True)

        cli = Path(sys.executable).with_name("optimum-cli")
        exported = run(cli, "export", "neuron", "--model", "org/tiny", *SHAPES, "out")
        assert exported.returncode == 0, exported.stderr
        fetched = [path for method, path in hub.requests if method == "GET"]
        assert not any(path.endswith(".safetensors") for path in fetched)
        recorded = json.loads((tmp_path / "out" / "neuron_config.json").read_text())
        assert (recorded["checkpoint_id"], recorded["checkpoint_revision"]) == ("org/tiny", commit)
        assert (tmp_path / "out" / "chat_template.jinja").is_file() and not (tmp_path / "out" / "checkpoint").exists()
        hub.add("org/tiny", {**files, "model.safetensors": b"a later, broken commit"})
        from_hub = run(sys.executable, "-c", LOAD, "out")
        assert from_hub.returncode == 0, from_hub.stderr
    model = Exports(tmp_path).model(checkpoint, tensor_parallel_size=2)
    expected = model.generate(torch.tensor([[5, 17, 42, 9]]), max_new_tokens=12, do_sample=False)[0].tolist()
    assert from_hub.stdout == str(expected)
