# SPDX-License-Identifier: Apache-2.0
"""The export command with a Hub id: configuration and side files come over the wire, the weights when it is loaded."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
from commands import PICTURE
from hub_client import run_at
from transformers import AutoProcessor

from optimum_gemma4 import NeuronModelForImageTextToText
from tools.tiny_pictures import draw


# What a new process answers about a picture, asked of a folder or a Hub id
LOAD = """
import json, sys
from PIL import Image
from transformers import AutoProcessor
from optimum_gemma4 import NeuronModelForImageTextToText
processor = AutoProcessor.from_pretrained(sys.argv[1])
model = NeuronModelForImageTextToText.from_pretrained(sys.argv[1])
inputs = processor(images=Image.open(sys.argv[2]), text="<bos><|image|>", return_tensors="pt")
print(json.dumps(model.generate(**inputs, max_new_tokens=12, do_sample=False)[0].tolist()))
"""
PUSH = """
import sys
from optimum_gemma4.exporters.hub import push_artifact
print(push_artifact(*sys.argv[1:]))
"""
# As for `cli_export`, whose tokens are the expected ones
SHAPES = ("--instance_type", "trn2", "--batch_size", "2", "--sequence_length", "224", "--tensor_parallel_size", "2")


@pytest.fixture
def run(hub, tmp_path):
    """Runs a command in a clean cache and returns the last line of its output."""
    return partial(run_at, hub.url, tmp_path)


def test_a_hub_id_exports_without_weights_and_loads_them_at_the_exported_commit(
    hub, run, tiny_checkpoint, cli_export, tmp_path, monkeypatch
):
    """Text and vision, since the repository's config.json has a vision_config; pushed without weights, and pulled."""
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    commit = hub.add("org/tiny", files)
    cli = Path(sys.executable).with_name("optimum-cli")
    run(cli, "export", "neuron", "--model", "org/tiny", *SHAPES, "--max_soft_tokens", "70,140", "out")
    fetched = [path for method, path in hub.requests if method == "GET"]
    assert not any(path.endswith(".safetensors") for path in fetched)
    recorded = json.loads((tmp_path / "out" / "neuron_config.json").read_text())
    assert (recorded["checkpoint_id"], recorded["checkpoint_revision"]) == ("org/tiny", commit)
    assert recorded["max_soft_tokens"] == [70, 140]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"chat_template.jinja", "processor_config.json", "model_text.pt", "model_vision.pt"}
    assert "checkpoint" not in names

    hub.add("org/tiny", {**files, "model.safetensors": b"a later, broken commit", "chat_template.jinja": b"broken"})
    pushed = run(sys.executable, "-c", PUSH, "out", "org/sees")
    assert not any(name.endswith(".safetensors") for name in hub.files("org/sees"))
    card = hub.files("org/sees")["README.md"].decode()
    assert "base_model: org/tiny" in card and f"| Revision | {commit} |" in card

    picture = draw(PICTURE)[0]
    picture.save(tmp_path / "picture.png")
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    model = NeuronModelForImageTextToText.from_pretrained(cli_export[1])
    inputs = AutoProcessor.from_pretrained(cli_export[1])(images=picture, text="<bos><|image|>", return_tensors="pt")
    expected = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0].tolist()
    assert json.loads(run(sys.executable, "-c", LOAD, "org/sees", "picture.png")) == expected
    assert hub.repositories["org/sees"].resolve("main") == pushed
