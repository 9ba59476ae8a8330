# SPDX-License-Identifier: Apache-2.0
"""The output folder appears whole or not at all, and a folder that is not whole is refused when it is loaded."""

import os
import shutil
import stat
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from optimum_gemma4 import Gemma4NeuronConfig
from optimum_gemma4.exporters.artifact import Staging, check_artifact
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


TEXT = {"text": "model.pt"}
BOTH = {"vision": "model_vision.pt", "text": "model_text.pt"}


def _write_artifact(folder, bundles, weights_folders):
    for name in bundles.values():
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("graph", "graph")
    for weights in weights_folders:
        (folder / "checkpoint" / weights).mkdir(parents=True)
        for rank in range(2):
            save_file({"w": torch.zeros(100)}, folder / "checkpoint" / weights / shard_file_name(rank))
    return folder


@pytest.fixture
def artifact(tmp_path):
    return _write_artifact(tmp_path, TEXT, ["weights"])


@pytest.fixture
def image_artifact(tmp_path):
    return _write_artifact(tmp_path, BOTH, ["vision/weights", "text/weights"])


def _neuron_config(**options) -> Gemma4NeuronConfig:
    return Gemma4NeuronConfig(batch_size=1, sequence_length=96, tp_degree=2, torch_dtype=torch.float32, **options)


NEURON_CONFIG = _neuron_config()
IMAGE_NEURON_CONFIG = _neuron_config(max_soft_tokens=[70], max_images=1)


def test_a_complete_artifact_passes(artifact):
    check_artifact(artifact, NEURON_CONFIG, TEXT)


def test_a_complete_artifact_of_two_bundles_passes(image_artifact):
    check_artifact(image_artifact, IMAGE_NEURON_CONFIG, BOTH)


@pytest.mark.parametrize("bundles", [TEXT, BOTH])
def test_an_artifact_whose_weights_are_on_the_hub_passes(tmp_path, bundles):
    check_artifact(_write_artifact(tmp_path, bundles, []), NEURON_CONFIG, bundles)


@pytest.mark.parametrize("name", BOTH.values())
def test_a_missing_bundle_is_named(image_artifact, name):
    (image_artifact / name).unlink()
    with pytest.raises(ValueError, match=f"not a complete export: {name} missing; export again"):
        check_artifact(image_artifact, IMAGE_NEURON_CONFIG, BOTH)


@pytest.mark.parametrize("name", BOTH.values())
def test_a_bundle_that_is_cut_short_is_named(image_artifact, name):
    with open(image_artifact / name, "r+b") as stream:
        stream.truncate((image_artifact / name).stat().st_size - 1)
    with pytest.raises(ValueError, match=f"not a complete export: {name} is cut short; export again"):
        check_artifact(image_artifact, IMAGE_NEURON_CONFIG, BOTH)


@pytest.mark.parametrize("bundle", BOTH)
def test_weights_that_are_cut_short_are_named(image_artifact, bundle):
    with open(image_artifact / "checkpoint" / bundle / "weights" / shard_file_name(1), "r+b") as stream:
        stream.truncate(200)
    message = rf"not a complete export: .*{bundle}/weights/tp1_sharded_checkpoint\.safetensors is 200 bytes"
    with pytest.raises(ValueError, match=message):
        check_artifact(image_artifact, IMAGE_NEURON_CONFIG, BOTH)


@pytest.mark.parametrize("bundle", BOTH)
def test_a_bundle_without_weights_is_named(image_artifact, bundle):
    shutil.rmtree(image_artifact / "checkpoint" / bundle)
    message = rf"{bundle}/weights/tp0_sharded_checkpoint\.safetensors is missing; export again"
    with pytest.raises(ValueError, match=message):
        check_artifact(image_artifact, IMAGE_NEURON_CONFIG, BOTH)


def test_a_rank_without_weights_is_named(artifact):
    (artifact / "checkpoint" / "weights" / shard_file_name(0)).unlink()
    with pytest.raises(ValueError, match=r"tp0_sharded_checkpoint\.safetensors is missing; export again"):
        check_artifact(artifact, NEURON_CONFIG, TEXT)
