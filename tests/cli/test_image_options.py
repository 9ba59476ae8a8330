# SPDX-License-Identifier: Apache-2.0
"""The task and the image options of the export command: what is compiled, and one clear line for what cannot be."""

import json
import re
import shutil

import pytest
from commands import read_json
from safetensors.torch import load_file, save_file

from optimum_gemma4.exporters import export as export_module
from optimum_gemma4.exporters.main import main
from tests.exporters.checkpoints import random_tensors, small_config, text_shapes, vision_shapes, write_checkpoint


SHAPES = ("--instance_type", "trn2", "--batch_size", "1", "--sequence_length", "384")
ONE_PREFILL = ("--prefill_buckets", "384")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What an export sets for its process is undone."""
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")


def _export(model, output, *arguments) -> int:
    return main(["--model", str(model), *SHAPES, "--tensor_parallel_size", "2", *arguments, str(output)])


def _error(capsys) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def image_checkpoint(tmp_path_factory):
    """A random model with a vision encoder, small enough to be exported often; it has no processor."""
    config = small_config()
    tensors = random_tensors({**text_shapes(config), **vision_shapes(config)})
    return write_checkpoint(tmp_path_factory.mktemp("image") / "checkpoint", config, tensors)


@pytest.fixture
def nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(export_module, "Staging", None)


def test_the_text_model_of_a_checkpoint_with_vision_is_exported_alone(image_checkpoint, tmp_path):
    assert _export(image_checkpoint, tmp_path / "out", "--task", "text-generation", *ONE_PREFILL) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "model.pt" in names and not names & {"model_text.pt", "model_vision.pt", "processor_config.json"}
    assert read_json(tmp_path / "out" / "config.json")["model_type"] == "gemma4_text"
    assert read_json(tmp_path / "out" / "neuron_config.json")["max_soft_tokens"] is None


@pytest.mark.parametrize(
    ("arguments", "recorded", "default"),
    [
        ((), {"max_soft_tokens": [280], "max_images": None}, 280),
        (
            ("--task", "image-text-to-text", "--max_soft_tokens", "140,70", "--max_images", "1"),
            {"max_soft_tokens": [70, 140], "max_images": 1},
            140,
        ),
    ],
    ids=["defaults", "given"],
)
def test_image_options_reach_the_artifact(image_checkpoint, tmp_path, arguments, recorded, default):
    """Without them: the published budget, and as many images as fit the prompt."""
    assert _export(image_checkpoint, tmp_path / "out", *ONE_PREFILL, *arguments) == 0
    written = read_json(tmp_path / "out" / "neuron_config.json")
    assert {name: written[name] for name in recorded} == recorded
    processor = read_json(tmp_path / "out" / "processor_config.json")
    assert processor["image_processor"]["max_soft_tokens"] == default


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--max_soft_tokens", "100"),
            "--max_soft_tokens: no image budget: 100; give some of 70, 140, 280, 560, 1120",
        ),
        (("--max_soft_tokens", "70,100,3"), "no image budget: 3, 100; give some of 70"),
        (("--max_soft_tokens", "70;280"), "'70;280' is not a list of integers such as 70,280"),
        (("--max_soft_tokens", ""), "'' is not a list of integers"),
        (("--max_images", "0"), "argument --max_images: 0 must be at least 1"),
        (("--max_images", "1.5"), "argument --max_images: '1.5' is not an integer"),
    ],
)
def test_a_value_that_cannot_be_read_is_a_usage_error(tiny_checkpoint, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        _export(tiny_checkpoint, tmp_path / "out", *arguments)
    assert ended.value.code == 2 and message in _error(capsys)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--max_soft_tokens", "70"), "--max_soft_tokens"),
        (("--max_images", "2", "--max_soft_tokens", "70"), "--max_soft_tokens, --max_images"),
    ],
)
def test_image_options_are_refused_where_no_images_are_taken(
    tiny_checkpoint, text_checkpoint, tmp_path, capsys, nothing_is_compiled, flags, named
):
    assert _export(tiny_checkpoint, tmp_path / "out", "--task", "text-generation", *flags) == 1
    line = _error(capsys)
    assert (
        f"error: {named}: --task text-generation exports the text model alone; use --task image-text-to-text" in line
    )
    assert _export(text_checkpoint, tmp_path / "out", *flags) == 1
    assert f"error: {named}: --model {text_checkpoint} has no vision encoder; leave it out" in _error(capsys)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("image-classification", "is exported for text-generation or image-text-to-text"),
        ("image-to-text", "is exported for text-generation or image-text-to-text"),
    ],
)
def test_another_task_is_told_which_there_are(tiny_checkpoint, tmp_path, capsys, nothing_is_compiled, task, message):
    assert _export(tiny_checkpoint, tmp_path / "out", "--task", task) == 1
    assert f"--task {task}: {tiny_checkpoint} {message}" in _error(capsys)


def test_a_size_that_splits_the_text_model_alone_is_refused_by_name(
    tiny_checkpoint, tmp_path, capsys, nothing_is_compiled
):
    """The tiny vision encoder has 4 heads, the text model 8."""
    assert main(["--model", str(tiny_checkpoint), *SHAPES, "--tensor_parallel_size", "8", str(tmp_path / "out")]) == 1
    assert re.search("--tensor_parallel_size 8 cannot split the 4 heads .* of the vision encoder", _error(capsys))


def test_a_checkpoint_without_its_vision_tensors_is_told_the_way_out(
    tiny_checkpoint, tmp_path, capsys, nothing_is_compiled
):
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    text = {name: tensor for name, tensor in tensors.items() if name.startswith("model.language_model.")}
    save_file(text, model / "model.safetensors")
    assert _export(model, tmp_path / "out") == 1
    line = _error(capsys)
    assert "missing: model.vision_tower." in line and line.endswith(
        "--task text-generation exports the text model alone"
    )


def test_a_checkpoint_of_a_text_configuration_and_vision_tensors_is_not_guessed_at(
    tiny_checkpoint, tmp_path, capsys, nothing_is_compiled
):
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    config = read_json(model / "config.json")
    (model / "config.json").write_text(json.dumps({**config, "vision_config": None}))
    assert _export(model, tmp_path / "out", "--max_images", "1") == 1
    assert "has no vision encoder" in _error(capsys)
