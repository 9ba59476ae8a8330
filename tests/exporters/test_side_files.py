# SPDX-License-Identifier: Apache-2.0
"""The files beside the graphs: copied as they are, and a processor whose images fit what was compiled."""

import json

import pytest
from PIL import Image
from transformers import AutoProcessor

from optimum_gemma4.exporters.side_files import copy_side_files
from optimum_gemma4.modeling.processing import Gemma4Processor


def _names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folders(tmp_path, tiny_checkpoint):
    """A checkpoint without weights, and an artifact with the configuration that an export has written by then."""
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
        (folder / "config.json").write_bytes((tiny_checkpoint / "config.json").read_bytes())
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "processor_config.json"):
        (source / name).write_bytes((tiny_checkpoint / name).read_bytes())
    return source, target


def _change(file, change) -> None:
    settings = json.loads(file.read_text())
    change(settings)
    file.write_text(json.dumps(settings))


def test_what_an_artifact_keeps_is_copied_as_it_is(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name in ("tokenizer.json", "chat_template.jinja", "processor_config.json", "model.safetensors", "README.md"):
        (source / name).write_text(name)
    assert copy_side_files(str(source), target, budgets=None) == ["tokenizer.json", "chat_template.jinja"]
    assert {name: (target / name).read_text() for name in _names(target)} == {
        name: name for name in ("tokenizer.json", "chat_template.jinja")
    }


def test_a_processor_whose_budget_was_compiled_is_copied_as_it_is(folders):
    source, target = folders
    assert "processor_config.json" in copy_side_files(str(source), target, budgets=[70, 280])
    assert (target / "processor_config.json").read_bytes() == (source / "processor_config.json").read_bytes()


@pytest.mark.parametrize(("budgets", "default"), [([140], 140), ([140, 280], 280), ([70, 140], 70)])
def test_the_processor_pads_to_a_budget_that_was_compiled(folders, budgets, default):
    source, target = folders
    copy_side_files(str(source), target, budgets=budgets)
    processor = AutoProcessor.from_pretrained(target)
    assert type(processor) is Gemma4Processor
    inputs = processor(text="<|image|>", images=Image.new("RGB", (320, 240)), return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 9 * default, 768)
    own = json.loads((source / "processor_config.json").read_text())
    settings = json.loads((target / "processor_config.json").read_text())
    image_settings = own["image_processor"] | {"max_soft_tokens": default, "image_seq_length": default}
    assert settings == own | {"image_seq_length": default, "image_processor": image_settings}


def test_an_older_image_processor_file_is_fitted_too(folders):
    source, target = folders
    settings = json.loads((source / "processor_config.json").read_text())
    (source / "preprocessor_config.json").write_text(json.dumps(settings.pop("image_processor")))
    (source / "processor_config.json").write_text(json.dumps(settings))
    copy_side_files(str(source), target, budgets=[140])
    assert AutoProcessor.from_pretrained(target).image_processor.max_soft_tokens == 140


def test_without_a_budget_in_its_file_the_processor_has_the_published_one(folders):
    source, target = folders
    _change(source / "processor_config.json", lambda settings: settings["image_processor"].pop("max_soft_tokens"))
    copy_side_files(str(source), target, budgets=[70])
    assert AutoProcessor.from_pretrained(target).image_processor.max_soft_tokens == 70


def test_a_checkpoint_without_a_processor_gets_the_published_one(folders):
    source, target = folders
    (source / "processor_config.json").unlink()
    for file in (source / "config.json", target / "config.json"):
        _change(file, lambda config: config["vision_config"].update(patch_size=8))
    copy_side_files(str(source), target, budgets=[140])
    image_processor = AutoProcessor.from_pretrained(target).image_processor
    assert (image_processor.max_soft_tokens, image_processor.patch_size) == (140, 8)


def test_a_processor_file_that_is_not_json_is_named(folders):
    source, target = folders
    (source / "processor_config.json").write_text("{")
    with pytest.raises(ValueError, match="processor_config.json of the checkpoint .* is not valid JSON"):
        copy_side_files(str(source), target, budgets=[70])
