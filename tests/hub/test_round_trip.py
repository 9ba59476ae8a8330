# SPDX-License-Identifier: Apache-2.0
"""Artifacts to a Hub and back, over the wire, with the real client in a process of its own (see `hub_client`)."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from client_process import PROMPT
from commands import PICTURE, QUESTION
from transformers import AutoProcessor

from optimum_gemma4 import NeuronModelForImageTextToText
from optimum_gemma4.exporters.model_card import model_card
from tools.tiny_pictures import draw


@pytest.fixture(scope="module")
def artifact(exports, random_checkpoint) -> Path:
    return exports.artifact(random_checkpoint, tensor_parallel_size=2)


@pytest.fixture(scope="module")
def expected(exports, random_checkpoint) -> list[int]:
    model = exports.model(random_checkpoint, tensor_parallel_size=2)
    return model.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False)[0].tolist()


def test_push_then_pull_by_id_and_by_revision(hub, client, artifact, expected):
    commit, branch_commit = client(
        ("push", str(artifact), "org/gemma"), ("push model", str(artifact), "org/gemma", "v2")
    )
    assert hub.repositories["org/gemma"].resolve("main") == commit
    assert hub.repositories["org/gemma"].resolve("v2") == branch_commit
    pulled = client(("pull", "org/gemma", None), ("pull", "org/gemma", commit), ("pull", "org/gemma", "v2"))
    assert pulled == [expected] * 3
    assert "README.md" in hub.files("org/gemma")
    assert {name for name in hub.files("org/gemma") if name.startswith("checkpoint/")} == {
        f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(2)
    }


def test_an_artifact_that_sees_sees_the_same_after_push_and_pull(hub, client, cli_export, tmp_path):
    """From a branch, also through the pipeline; the processor comes from the Hub too. The main branch stays empty."""
    artifact = cli_export[1]
    picture, description = draw(PICTURE)
    picture.save(tmp_path / "picture.png")
    inputs = AutoProcessor.from_pretrained(artifact)(images=picture, text="<bos><|image|>", return_tensors="pt")
    model = NeuronModelForImageTextToText.from_pretrained(artifact)
    wanted = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0].tolist()
    commit, *pulled, absent = client(
        ("push", str(artifact), "org/sees", None, "v2"),
        ("pull and see", "org/sees", "v2", str(tmp_path / "picture.png")),
        ("pipeline", "org/sees", "v2", str(tmp_path / "picture.png"), QUESTION),
        ("pull and see", "org/sees", None, str(tmp_path / "picture.png")),
    )
    assert pulled == [wanted, description] and absent.startswith("ValueError: Unrecognized model in org/sees")
    assert hub.repositories["org/sees"].resolve("v2") == commit
    assert {name for name in hub.files("org/sees", "v2") if name.startswith("checkpoint/")} == {
        f"checkpoint/{bundle}/weights/tp{rank}_sharded_checkpoint.safetensors"
        for bundle in ("text", "vision")
        for rank in range(2)
    }


def test_weights_that_the_hub_has_stay_where_they_are(hub, client, artifact, expected, random_checkpoint, tmp_path):
    """Pushed without weights; loading fetches them from the base checkpoint, at the commit that was exported."""
    files = {path.name: path.read_bytes() for path in random_checkpoint.iterdir()}
    exported = hub.add("google/base", files)
    hub.add("google/base", {**files, "model.safetensors": b"a later, broken commit"})
    folder = shutil.copytree(artifact, tmp_path / "artifact")
    recorded = json.loads((folder / "neuron_config.json").read_text())
    recorded |= {"checkpoint_id": "google/base", "checkpoint_revision": exported}
    (folder / "neuron_config.json").write_text(json.dumps(recorded))
    results = client(("push", str(folder), "org/light"), ("pull", "org/light", None))
    assert not any(name.startswith("checkpoint/") for name in hub.files("org/light"))
    assert results[1] == expected
    assert b"base_model: google/base" in hub.files("org/light")["README.md"]


def test_a_wrong_token_and_a_missing_repository_are_said(hub, client, artifact):
    hub.add("org/private", {"config.json": b"{}"}, private=True)
    refused, denied = client(("push", str(artifact), "org/refused"), ("pull", "org/private", None), token="hf_wrong")
    assert refused.startswith("ValueError: org/refused was not pushed, check the token")
    assert "org/refused" not in hub.repositories
    assert "401" in denied and "Invalid credentials" in denied
    (missing,) = client(("pull", "org/absent", None))
    assert missing.startswith("OSError: org/absent is not a local folder")


def test_a_cut_upload_commits_nothing_and_can_be_repeated(hub, client, artifact, expected, tmp_path):
    folder = shutil.copytree(artifact, tmp_path / "artifact")
    (folder / "not yet there.bin").write_bytes(b"a large file that the Hub does not have yet" * 1000)
    hub.cut_uploads = 1000
    try:
        (cut,) = client(("push", str(folder), "org/cut"))
    finally:
        hub.cut_uploads = 0
    assert cut.startswith("ConnectionError: org/cut was not pushed, nothing was committed")
    assert "model.pt" not in hub.files("org/cut")
    assert client(("push", str(folder), "org/cut"), ("pull", "org/cut", None))[1] == expected


def test_a_cut_download_is_said_and_can_be_repeated(hub, client, artifact, expected):
    client(("push", str(artifact), "org/flaky"))
    hub.cut_downloads_after = 1000
    try:
        (cut,) = client(("pull", "org/flaky", None))
    finally:
        hub.cut_downloads_after = None
    assert cut.startswith("ConnectionError: org/flaky was not downloaded whole")
    assert client(("pull", "org/flaky", None), forget=False) == [expected]


def test_failures_are_said_of_an_artifact_that_sees(hub, client, cli_export):
    artifact = str(cli_export[1])
    hub.add("org/private_images", {"config.json": b"{}"}, private=True)
    refused, denied = client(
        ("push", artifact, "org/refused_images"), ("load", "org/private_images", None), token="hf_wrong"
    )
    assert refused.startswith("ValueError: org/refused_images was not pushed, check the token")
    assert "org/refused_images" not in hub.repositories
    assert "org/private_images" in denied and "401" in denied and "Invalid credentials" in denied
    absent, _, no_revision = client(
        ("load", "org/absent_images", None), ("push", artifact, "org/cut_images"), ("load", "org/cut_images", "v9")
    )
    assert absent.startswith("OSError: org/absent_images is not a local folder")
    assert no_revision.startswith("OSError: v9 is not a valid git identifier")
    hub.cut_downloads_after = 1000
    try:
        (cut,) = client(("load", "org/cut_images", None))
    finally:
        hub.cut_downloads_after = None
    assert cut.startswith("ConnectionError: org/cut_images was not downloaded whole")
    assert client(("load", "org/cut_images", None), forget=False) == ["Gemma4NeuronModelForImageTextToText"]


def test_a_folder_that_is_no_export_is_not_pushed(hub, client, tmp_path):
    (refused,) = client(("push", str(tmp_path), "org/nothing"))
    assert refused.startswith(f"ValueError: {tmp_path} has no neuron_config.json")
    assert "org/nothing" not in hub.repositories


def _example(card: str) -> str:
    return card.split("```python\n")[1].split("```")[0]


def test_the_card_of_text_says_what_the_artifact_is_for(artifact):
    card = model_card(artifact, "org/gemma")
    for line in (
        "library_name: optimum-neuron",
        "pipeline_tag: text-generation",
        "- trn2",
        "| Tensor parallel size | 2 |",
        "| Sequence length | 64 |",
        "| Compiled by | the simulator backend",
        "| optimum-neuron | 0.4.5 |",
        'NeuronModelForCausalLM.from_pretrained("org/gemma")',
        "**Compiled by the simulator: runs on CPUs only.**",
    ):
        assert line in card
    assert "base_model" not in card and "image" not in card
    compile(_example(card), "card", "exec")


def test_the_card_of_images_says_which_fit(cli_export):
    card = model_card(cli_export[1], "org/sees")
    for line in (
        "pipeline_tag: image-text-to-text",
        "| Task | image-text-to-text |",
        "| Soft tokens per image, at most | 70, 140 |",
        "| Images per prompt | as many as fit the prompt |",
        'AutoProcessor.from_pretrained("org/sees")',
        'NeuronModelForImageTextToText.from_pretrained("org/sees")',
    ):
        assert line in card
    compile(_example(card), "card", "exec")
