# SPDX-License-Identifier: Apache-2.0
"""The export with a Hub id: configuration and side files come over the wire, the weights when it is loaded."""

import json
import sys

from commands import PICTURE
from hub_client import run_at
from transformers import AutoProcessor

from optimum_gemma4 import NeuronModelForImageTextToText
from tools.tiny_pictures import draw


# The process that `optimum-cli export neuron` starts; one prefill graph, to be exported sooner
EXPORT = (sys.executable, "-m", "optimum_gemma4.exporters", "--model", "org/tiny", "--instance_type", "trn2")
SHAPES = ("--batch_size", 1, "--sequence_length", 128, "--tensor_parallel_size", 2, "--max_soft_tokens", 70)


def test_a_hub_id_exports_without_weights_and_loads_them_at_the_exported_commit(
    hub, client, tiny_checkpoint, cli_export, tmp_path, monkeypatch
):
    """Text and vision, since the repository's config.json has a vision_config; pushed without weights, and pulled."""
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    commit = hub.add("org/tiny", files)
    run_at(hub.url, tmp_path, *EXPORT, *SHAPES, "out")
    fetched = [path for method, path in hub.requests if method == "GET" and "org/tiny" in path]
    assert fetched and not any(path.endswith(".safetensors") for path in fetched)
    recorded = json.loads((tmp_path / "out" / "neuron_config.json").read_text())
    assert (recorded["checkpoint_id"], recorded["checkpoint_revision"]) == ("org/tiny", commit)
    assert recorded["max_soft_tokens"] == [70]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"chat_template.jinja", "processor_config.json", "model_text.pt", "model_vision.pt"}
    assert "checkpoint" not in names

    hub.add("org/tiny", {**files, "model.safetensors": b"a later, broken commit", "chat_template.jinja": b"broken"})
    picture = draw(PICTURE)[0]
    picture.save(tmp_path / "picture.png")
    pushed, seen = client(
        ("push", str(tmp_path / "out"), "org/exported"),
        ("pull and see", "org/exported", None, str(tmp_path / "picture.png")),
    )
    assert not any(name.endswith(".safetensors") for name in hub.files("org/exported"))
    card = hub.files("org/exported")["README.md"].decode()
    assert "base_model: org/tiny" in card and f"| Revision | {commit} |" in card

    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    model = NeuronModelForImageTextToText.from_pretrained(cli_export[1])
    inputs = AutoProcessor.from_pretrained(cli_export[1])(images=picture, text="<bos><|image|>", return_tensors="pt")
    expected = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0].tolist()
    assert seen == expected
    assert hub.repositories["org/exported"].resolve("main") == pushed
