# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and one export by the real command, made once for the tests of this folder."""

from pathlib import Path

import pytest
from commands import Finished, optimum_cli, write_text_checkpoint


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory) -> Path:
    """See `write_text_checkpoint`; float32."""
    return write_text_checkpoint(tmp_path_factory.mktemp("text") / "checkpoint")


@pytest.fixture(scope="session")
def bfloat16_checkpoint(tmp_path_factory) -> Path:
    """The same in bfloat16."""
    return write_text_checkpoint(tmp_path_factory.mktemp("text") / "bfloat16", dtype="bfloat16")


@pytest.fixture(scope="session")
def cli_export(tiny_checkpoint, tmp_path_factory) -> tuple[Finished, Path]:
    """The trained checkpoint, exported once by the real command at tp 2; the command's end and the artifact."""
    folder = tmp_path_factory.mktemp("cli")
    output = folder / "a new folder" / "with spaces"
    shapes = ("--instance_type", "trn2", "--batch_size", 1, "--sequence_length", 96, "--tensor_parallel_size", 2)
    return optimum_cli(
        "export", "neuron", "--model", tiny_checkpoint, "--task", "text-generation", *shapes, output, cwd=folder
    ), output
