# SPDX-License-Identifier: Apache-2.0
"""Checkpoints, made once for the tests of this folder."""

from pathlib import Path

import pytest
from commands import write_text_checkpoint


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory) -> Path:
    """See `write_text_checkpoint`; float32."""
    return write_text_checkpoint(tmp_path_factory.mktemp("text") / "checkpoint")


@pytest.fixture(scope="session")
def bfloat16_checkpoint(tmp_path_factory) -> Path:
    """The same in bfloat16."""
    return write_text_checkpoint(tmp_path_factory.mktemp("text") / "bfloat16", dtype="bfloat16")
