# SPDX-License-Identifier: Apache-2.0
"""The export command within this process: the options it hands on, and one clear line for all a user gets wrong."""

import json
import shutil
import sys

import pytest
import torch
from commands import SHAPES, read_json

from optimum_gemma4.exporters import export as export_module
from optimum_gemma4.exporters.main import main


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What an export sets for its process is undone."""
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")


def _export(model, output, *arguments) -> int:
    return main(["--model", str(model), *SHAPES, *arguments, str(output)])


def _error(capsys) -> str:
    """The last line of stderr; there is no traceback above it."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def _copy(checkpoint, folder):
    return shutil.copytree(checkpoint, folder)


def _with_config(checkpoint, folder, **changes):
    copy = _copy(checkpoint, folder)
    config = {name: value for name, value in {**read_json(copy / "config.json"), **changes}.items() if value != "drop"}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("arguments", "recorded"),
    [
        ((), {"torch_dtype": "bfloat16", "on_device_sampling": True, "nki_kernels": True, "prefill_buckets": [64]}),
        (
            ("--torch_dtype", "float32", "--no_on_device_sampling", "--no_nki", "--prefill_buckets", "32,16"),
            {"torch_dtype": "float32", "on_device_sampling": False, "nki_kernels": False, "prefill_buckets": [16, 32]},
        ),
        (("--max_context_length", "48", "--on_device_sampling"), {"max_context_length": 48, "prefill_buckets": [48]}),
        (("--task", "causal-lm", "--batch_size", "2"), {"batch_size": 2, "continuous_batching": True}),
    ],
    ids=["defaults", "everything else", "max_context_length", "batch"],
)
def test_options_reach_the_artifact(bfloat16_checkpoint, tmp_path, arguments, recorded):
    assert _export(bfloat16_checkpoint, tmp_path / "out", *arguments) == 0
    written = read_json(tmp_path / "out" / "neuron_config.json")
    assert {name: written[name] for name in recorded} == recorded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tensor_parallel_size", "3"), r"--tensor_parallel_size 3"),
        (("--tensor_parallel_size", "0"), r"tp_degree is 0|--tensor_parallel_size 0"),
        (("--batch_size", "0"), "batch_size is 0"),
        (("--sequence_length", "1"), "sequence_length is 1"),
        (("--max_context_length", "65"), "max_context_length is 65"),
        (
            ("--prefill_buckets", "16,32", "--max_context_length", "48"),
            r"prefill_buckets is \[16, 32\].* max_context_length \(48\)",
        ),
        (("--task", "fill-mask"), "--task fill-mask: .* is exported for text-generation"),
        (("--task", "nonsense"), "--task nonsense: .* is exported for text-generation"),
        (("--task", "image-text-to-text"), "--task image-text-to-text: .* is exported for text-generation"),
    ],
)
def test_a_value_that_cannot_be_exported_is_named(text_checkpoint, tmp_path, capsys, arguments, message):
    import re

    assert _export(text_checkpoint, tmp_path / "out", *arguments) == 1
    line = _error(capsys)
    assert line.startswith("optimum-cli export neuron: error: ") and re.search(message, line), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--torch_dtype", "float64"), "argument --torch_dtype: invalid choice"),
        (("--prefill_buckets", "16,x"), "argument --prefill_buckets: '16,x' is not a list of integers"),
        (("--prefill_buckets", "0"), "argument --prefill_buckets: '0': every length must be at least 1"),
        (("--max_context_length", "-4"), "argument --max_context_length: -4 must be at least 1"),
        (("--max_context_length", "many"), "argument --max_context_length: 'many' is not an integer"),
        (("--instance_type", "p4d"), "argument --instance_type: invalid choice: 'p4d'"),
        (("--batch_size", "two"), "argument --batch_size: invalid int value"),
        (("--bogus",), "unrecognized arguments: --bogus"),
    ],
)
def test_a_value_that_cannot_be_read_is_a_usage_error(text_checkpoint, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        _export(text_checkpoint, tmp_path / "out", *arguments)
    assert ended.value.code == 2 and message in _error(capsys)


def test_without_a_device_the_instance_type_must_be_given(text_checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--model", str(text_checkpoint), str(tmp_path / "out")])
    assert ended.value.code == 2
    assert _error(capsys).endswith("arguments are required: --instance_type {trn1,inf2,trn1n,trn2}")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{tmp}/absent", "--model {tmp}/absent: there is no folder {tmp}/absent"),
        ("{tmp}/empty", "--model {tmp}/empty: {tmp}/empty has no config.json"),
        ("{tmp}/file", "--model {tmp}/file is a file; give the folder of the checkpoint"),
        ("org/absent", "--model org/absent is neither a folder nor a model that could be read from the Hub"),
        ("a/b/c", "--model a/b/c: there is no folder a/b/c"),
    ],
)
def test_a_model_that_is_not_there_is_named(tmp_path, capsys, model, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert _export(model.format(tmp=tmp_path), tmp_path / "out") == 1
    assert message.format(tmp=tmp_path) in _error(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float64"}, "has dtype .*give --torch_dtype bfloat16 or float32"),
        ({"dtype": "drop"}, "does not say its dtype; give --torch_dtype"),
        ({"enable_moe_block": True}, "enable_moe_block = True .* is not supported|not supported: enable_moe_block"),
        ({"hidden_size": 48}, r"embed_tokens\.weight \[512, 32\] instead of \[512, 48\]"),
        ({"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}, "not used by this model"),
    ],
    ids=["float64", "no dtype", "moe", "hidden size", "layers"],
)
def test_a_configuration_that_cannot_be_exported_is_explained(text_checkpoint, tmp_path, capsys, changes, message):
    import re

    model = _with_config(text_checkpoint, tmp_path / "model", **changes)
    assert _export(model, tmp_path / "out") == 1
    line = _error(capsys)
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


def test_a_configuration_that_is_not_json_is_named(text_checkpoint, tmp_path, capsys):
    model = _copy(text_checkpoint, tmp_path / "model")
    (model / "config.json").write_text("{")
    assert _export(model, tmp_path / "out") == 1
    assert "config.json' is not a valid JSON file" in _error(capsys)


@pytest.mark.parametrize("damage", ["cut", "absent"])
def test_damaged_weights_are_named_before_the_compiler_starts(text_checkpoint, tmp_path, capsys, monkeypatch, damage):
    model = _copy(text_checkpoint, tmp_path / "model")
    weights = model / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-3])
    else:
        weights.unlink()
    monkeypatch.setattr(export_module, "Staging", None)  # nothing is staged, so nothing is compiled
    assert _export(model, tmp_path / "out") == 1
    line = _error(capsys)
    assert "model.safetensors" in line and "--model" in line


def test_what_no_core_can_hold_is_refused_before_the_compiler_starts(text_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export_module, "Staging", None)
    assert _export(text_checkpoint, tmp_path / "out", "--sequence_length", str(2**29)) == 1
    line = _error(capsys)
    assert "no --tensor_parallel_size fits; or lower --sequence_length 536870912 or --batch_size 1" in line


@pytest.mark.parametrize(("name", "message"), [("file", "is not a folder"), ("full", "holds something else")])
def test_an_output_that_must_not_be_replaced_is_kept(text_checkpoint, tmp_path, capsys, name, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert _export(text_checkpoint, tmp_path / name) == 1
    assert f"output {tmp_path / name}" in (line := _error(capsys)) and message in line
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "file").read_text() == "mine"


def test_a_subfolder_of_a_local_model_is_exported(text_checkpoint, tmp_path):
    _copy(text_checkpoint, tmp_path / "models" / "gemma")
    assert _export(tmp_path / "models", tmp_path / "out", "--subfolder", "gemma") == 0
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_options_without_effect_are_said(text_checkpoint, tmp_path, caplog):
    caplog.set_level("WARNING", "optimum_gemma4")
    import logging

    logging.getLogger("optimum_gemma4").addHandler(caplog.handler)
    assert _export(text_checkpoint, tmp_path / "out", "--auto_cast", "all", "-O3") == 0
    assert "Without effect on Gemma 4: auto_cast, O3" in caplog.text


def test_a_mistake_of_ours_says_so_and_debug_shows_where(text_checkpoint, tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise KeyError("layers")

    monkeypatch.setattr("optimum_gemma4.exporters.main.export_gemma4", broken)
    assert _export(text_checkpoint, tmp_path / "out") == 1
    assert _error(capsys).endswith("error: unexpected KeyError: 'layers' (--debug shows where)")
    with pytest.raises(KeyError):
        _export(text_checkpoint, tmp_path / "out", "--debug")
    monkeypatch.setenv("OPTIMUM_GEMMA4_DEBUG", "1")
    with pytest.raises(KeyError):
        _export(text_checkpoint, tmp_path / "out")


def test_an_interrupted_export_has_the_shells_status(text_checkpoint, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("optimum_gemma4.exporters.main.export_gemma4", interrupted)
    assert _export(text_checkpoint, tmp_path / "out") == 130


def test_options_of_gemma4_are_refused_for_other_models(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert _export(tmp_path, tmp_path / "out", "--no_nki") == 1
    assert f"--no_nki: only for Gemma 4, and --model {tmp_path} is llama" in _error(capsys)


@pytest.mark.parametrize("config", [{"model_type": "llama"}, None], ids=["llama", "diffusers"])
def test_other_models_go_to_optimum_neurons_own_main(tmp_path, monkeypatch, config):
    """Untouched: it parses the arguments of the process itself."""
    (tmp_path / ("model_index.json" if config is None else "config.json")).write_text(json.dumps(config or {}))
    seen = []
    monkeypatch.setattr("optimum.exporters.neuron.__main__.main", lambda: seen.append(list(sys.argv)))
    monkeypatch.setattr(sys, "argv", ["optimum_gemma4.exporters", "--model", str(tmp_path)])
    assert _export(tmp_path, tmp_path / "out") == 0
    assert seen == [["optimum_gemma4.exporters", "--model", str(tmp_path)]]


def test_float16_is_kept_when_the_checkpoint_has_it(bfloat16_checkpoint, tmp_path):
    assert _export(bfloat16_checkpoint, tmp_path / "out", "--torch_dtype", "float16") == 0
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "out" / "checkpoint" / "weights" / "tp0_sharded_checkpoint.safetensors")
    assert weights["norm.weight"].dtype == torch.float16
