# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
from transformers import AutoProcessor

from optimum_gemma4.modeling.processing import register
from tests.modeling.processing.toy_checkpoint import write_toy_checkpoint


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory) -> Path:
    register()
    return write_toy_checkpoint(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def toy_folder_adding_bos(tmp_path_factory) -> Path:
    register()
    return write_toy_checkpoint(tmp_path_factory.mktemp("toy_bos"), adds_bos=True)


@pytest.fixture(scope="session")
def processor(toy_folder):
    return AutoProcessor.from_pretrained(toy_folder)


@pytest.fixture(scope="session")
def golden():
    folder = Path(__file__).parent / "golden"
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("images", "prompts")}
