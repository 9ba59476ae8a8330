# SPDX-License-Identifier: Apache-2.0
"""The output folder appears whole or not at all, and a folder that is not whole is refused when it is loaded."""

import os
import stat

import pytest
import torch
from safetensors.torch import save_file

from optimum_gemma4 import Gemma4NeuronConfig
from optimum_gemma4.exporters.artifact import Staging, check_artifact, copy_side_files
from optimum_gemma4.exporters.checkpoint import shard_file_name


def _names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_output_appears_on_commit_with_usual_rights(tmp_path):
    output = tmp_path / "a" / "b" / "out"
    with Staging(output, 0) as staging:
        (staging.folder / "neuron_config.json").write_text("{}")
        assert not output.exists() and staging.folder.parent == output.parent
        staging.commit()
    assert _names(output) == ["neuron_config.json"] and _names(output.parent) == ["out"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(output.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("error", [RuntimeError("compiler"), KeyboardInterrupt(), SystemExit(143)])
def test_a_failure_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(type(error)), Staging(tmp_path / "new" / "parents" / "out", 0) as staging:
        (staging.folder / "model.pt").write_text("half")
        raise error
    assert _names(tmp_path) == []


def test_a_failure_keeps_the_export_that_was_there(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "neuron_config.json").write_text("old")
    with pytest.raises(RuntimeError), Staging(tmp_path / "out", 0):
        raise RuntimeError("compiler")
    assert (tmp_path / "out" / "neuron_config.json").read_text() == "old" and _names(tmp_path) == ["out"]


def test_an_export_replaces_the_one_that_was_there_as_a_whole(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    for name in ("neuron_config.json", "model_vision.pt"):
        (output / name).write_text("old")
    with Staging(output, 0) as staging:
        (staging.folder / "neuron_config.json").write_text("new")
        staging.commit()
    assert _names(output) == ["neuron_config.json"] and (output / "neuron_config.json").read_text() == "new"
    assert _names(tmp_path) == ["out"]


def test_an_empty_folder_may_be_the_output(tmp_path):
    (tmp_path / "out").mkdir()
    with Staging(tmp_path / "out", 0) as staging:
        (staging.folder / "file").write_text("")
        staging.commit()
    assert _names(tmp_path / "out") == ["file"]


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="output .* holds something else"):
        Staging(tmp_path, 0)
    assert _names(tmp_path) == ["thesis.tex"]


def test_a_file_is_not_an_output(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="output .* is not a folder"):
        Staging(tmp_path / "out", 0)


def test_a_file_on_the_way_to_the_output_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match="output .*/file/out cannot be written"),
        Staging(tmp_path / "file" / "out", 0),
    ):
        pass


def test_too_little_space_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"output .*: the weights take 1048576\.00 GiB and .* are free"):
        with Staging(tmp_path / "x" / "out", 2**50):
            pass
    assert _names(tmp_path) == []


def test_space_that_runs_out_is_the_outputs_fault(tmp_path):
    with pytest.raises(ValueError, match="output .* cannot be written: No space left"), Staging(tmp_path / "out", 0):
        raise OSError(28, "No space left on device")
    assert _names(tmp_path) == []


def test_side_files_are_copied_as_they_are(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name in ("tokenizer.json", "chat_template.jinja", "processor_config.json", "model.safetensors", "README.md"):
        (source / name).write_text(name)
    assert copy_side_files(str(source), target, takes_images=False) == ["tokenizer.json", "chat_template.jinja"]
    assert _names(target) == ["chat_template.jinja", "tokenizer.json"]
    assert "processor_config.json" in copy_side_files(str(source), target, takes_images=True)


@pytest.fixture
def artifact(tmp_path):
    weights = tmp_path / "checkpoint" / "weights"
    weights.mkdir(parents=True)
    (tmp_path / "model.pt").write_text("graph")
    for rank in range(2):
        save_file({"w": torch.zeros(100)}, weights / shard_file_name(rank))
    return tmp_path


NEURON_CONFIG = Gemma4NeuronConfig(batch_size=1, sequence_length=64, tp_degree=2, torch_dtype=torch.float32)


def test_a_complete_artifact_passes(artifact):
    check_artifact(artifact, NEURON_CONFIG, ["model.pt"])


def test_an_artifact_whose_weights_are_on_the_hub_passes(artifact):
    for path in (artifact / "checkpoint" / "weights").iterdir():
        path.unlink()
    (artifact / "checkpoint" / "weights").rmdir()
    check_artifact(artifact, NEURON_CONFIG, ["model.pt"])


def test_missing_graphs_are_named(artifact):
    with pytest.raises(ValueError, match=r"not a complete export: model_text\.pt, model_vision\.pt missing"):
        check_artifact(artifact, NEURON_CONFIG, ["model_text.pt", "model_vision.pt"])


@pytest.mark.parametrize("folder", ["weights", "vision/weights"])
def test_weights_that_are_cut_short_are_named(artifact, folder):
    (artifact / "checkpoint" / "weights").rename(artifact / "moved")
    (artifact / "checkpoint" / folder).parent.mkdir(exist_ok=True)
    (artifact / "moved").rename(artifact / "checkpoint" / folder)
    with open(artifact / "checkpoint" / folder / shard_file_name(1), "r+b") as stream:
        stream.truncate(200)
    with pytest.raises(ValueError, match=r"not a complete export: .*tp1_sharded_checkpoint\.safetensors is 200 bytes"):
        check_artifact(artifact, NEURON_CONFIG, ["model.pt"])


def test_a_rank_without_weights_is_named(artifact):
    (artifact / "checkpoint" / "weights" / shard_file_name(0)).unlink()
    with pytest.raises(ValueError, match=r"tp0_sharded_checkpoint\.safetensors is missing; export again"):
        check_artifact(artifact, NEURON_CONFIG, ["model.pt"])
