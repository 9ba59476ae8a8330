# SPDX-License-Identifier: Apache-2.0
"""`--no_nki` and `--verbose`: what the command says about kernels, and what it leaves in the artifact."""

import pytest
from commands import SHAPES, read_json
from optimum.neuron.configuration_utils import NeuronConfig

from optimum_gemma4.exporters.main import main


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What an export sets for its process is undone."""
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--verbose",), "short prompts, whose scores fit on chip"),
        (("--no_nki",), "kernels are turned off"),
    ],
    ids=["verbose", "without kernels"],
)
def test_what_runs_is_shown_and_kept(bfloat16_checkpoint, tmp_path, caplog, monkeypatch, flags, reason):
    monkeypatch.setattr("optimum_gemma4.exporters.main._log_to_stderr", lambda: None)  # to caplog instead
    output = tmp_path / "out"
    with caplog.at_level("INFO", "optimum_gemma4"):
        assert main(["--model", str(bfloat16_checkpoint), *SHAPES, *flags, str(output)]) == 0
    lines = [line for line in caplog.text.splitlines() if "head_dim" in line]
    record = read_json(output / "neuron_config.json")["attention_kernels"]
    assert record == NeuronConfig.from_pretrained(output).attention_kernels
    assert {entry["graph"] for entry in record} == {"context_encoding_64", "token_generation"}
    assert all(reason in entry["reason"] for entry in record if entry["phase"] == "prefill")
    assert len(lines) == (len(record) if "--verbose" in flags else 0)
    assert all(entry["reason"] in line for entry, line in zip(record, lines))
