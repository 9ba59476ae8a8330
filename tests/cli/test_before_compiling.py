# SPDX-License-Identifier: Apache-2.0
"""What a user gets wrong beside the options is found before the compiler starts; nothing of the user's is replaced."""

import json
import re
import shutil

import pytest
from commands import SHAPES, read_json

from optimum_gemma4.exporters import export as export_module
from optimum_gemma4.exporters.main import main


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What an export sets for its process is undone; nothing is staged, so nothing is compiled."""
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    monkeypatch.setattr(export_module.Staging, "__enter__", None)
    # The handler would keep the stream of one test for all others
    monkeypatch.setattr("optimum_gemma4.exporters.main._log_to_stderr", lambda: None)


def _error(capsys, model, output, *arguments) -> str:
    """The last line of an export that fails."""
    assert main(["--model", str(model), *SHAPES, *arguments, str(output)]) == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def model(text_checkpoint, tmp_path):
    """A copy to damage."""
    return shutil.copytree(text_checkpoint, tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("generation_config.json", "{", "generation_config.json of the checkpoint .* is not valid JSON"),
        ("tokenizer.json", "", "tokenizer.json of the checkpoint .* is not valid JSON"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json of the checkpoint .* holds a list, not an object"),
    ],
)
def test_a_damaged_file_beside_the_weights_is_named(model, tmp_path, capsys, name, content, message):
    """A generation_config.json that cannot be read would cost the stop ids, which are in no other file."""
    (model / name).write_text(content)
    line = _error(capsys, model, tmp_path / "out")
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ("name", "value"),
    [("sliding_window", None), ("sliding_window", 0), ("num_key_value_heads", 0), ("head_dim", "8"),
     ("pad_token_id", None), ("pad_token_id", 512), ("pad_token_id", -1)],
)  # fmt: skip
def test_a_size_that_no_model_has_is_named(model, tmp_path, capsys, name, value):
    """Without a window the sliding layers would be exported as global ones, and a pad id has to have an embedding."""
    config = read_json(model / "config.json")
    (model / "config.json").write_text(json.dumps({**config, name: value}))
    assert f"{name} is {value!r} in config.json: expected an" in _error(capsys, model, tmp_path / "out")


def test_an_index_that_names_no_files_is_named(model, tmp_path, capsys):
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"model.norm.weight": 3}}')
    assert "index.json is not a readable index" in _error(capsys, model, tmp_path / "out")


@pytest.mark.parametrize("other", ["notes.txt", ".git", "model.safetensors"])
def test_what_lies_beside_an_older_export_is_not_replaced_with_it(model, tmp_path, capsys, other):
    output = tmp_path / "out"
    (output / other).mkdir(parents=True)
    (output / "neuron_config.json").write_text("{}")
    assert f"would be replaced, and holds {other} beside an export" in _error(capsys, model, output)
    assert (output / other).is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tensor_parallel_size", "0"), "(--tensor_parallel_size)"),
        (("--sequence_length", str(10**20)), "expected an integer of 1 to 2147483647 (--sequence_length)"),
        (("--prefill_buckets", "65"), "or the last of --prefill_buckets"),
    ],
)
def test_a_number_out_of_range_is_named_by_its_flag(model, tmp_path, capsys, arguments, message):
    assert message in _error(capsys, model, tmp_path / "out", *arguments)


@pytest.mark.parametrize(("longest", "warned"), [(64, False), (63, True)])
def test_a_sequence_beyond_the_models_is_said(model, tmp_path, caplog, monkeypatch, longest, warned):
    config = read_json(model / "config.json")
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": longest}))
    monkeypatch.setattr(export_module.logger, "handlers", [caplog.handler])
    monkeypatch.setattr(export_module.Staging, "__init__", lambda *_: 1 / 0)
    main(["--model", str(model), *SHAPES, str(tmp_path / "out")])
    warning = f"--sequence_length is 64, and the model was made for sequences of up to {longest}"
    assert (warning in caplog.text) == warned


@pytest.mark.parametrize(
    "arguments",
    [("--compiler_workdir", "w"), ("--num_beams", "4"), ("--auto_cast_type", "fp16"), ("--disable_neuron_cache",),
     ("--text_batch_size", "2"), ("--unet", "x"), ("--lora_model_ids", "a/b", "--atol", "1")],
)  # fmt: skip
def test_every_option_without_effect_is_said(model, tmp_path, caplog, monkeypatch, arguments):
    monkeypatch.setattr(export_module.logger, "handlers", [caplog.handler])
    monkeypatch.setattr(export_module.Staging, "__init__", lambda *_: 1 / 0)
    main(["--model", str(model), *SHAPES, *arguments, str(tmp_path / "out")])
    assert f"Without effect on Gemma 4: {arguments[0].strip('-')}" in caplog.text.replace("atol, ", "")
