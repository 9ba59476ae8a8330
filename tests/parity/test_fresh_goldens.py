# SPDX-License-Identifier: Apache-2.0
"""The committed goldens are what transformers computes: made afresh where the reference environment exists."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest


ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("OPTIMUM_GEMMA4_REFERENCE_PYTHON", ROOT / ".venv-reference" / "bin" / "python"))
needs_the_reference = pytest.mark.skipif(not PYTHON.is_file(), reason="no reference environment: make reference-env")
PARITY = ROOT / "tests" / "parity" / "golden"
VISION = ROOT / "tests" / "modeling" / "vision" / "golden"
PROCESSING = ROOT / "tests" / "modeling" / "processing" / "golden"
# The tool with its arguments, what it makes, and where that is committed
MADE = [
    (["-m", "tools.make_reference", "--out"], ["gemma4-tiny.npz"], PARITY),
    (["-m", "tools.make_greedy_reference", "--out"], ["greedy_models.npz"], PARITY),
    (["-m", "tools.make_processing_reference"], ["images.json", "prompts.json"], PROCESSING),
]
MADE_IN_A_WHILE = [
    (["-m", "tools.make_picture_reference", "--out"], ["gemma4-tiny-pictures.npz"], PARITY),
    (
        ["-m", "tools.make_multimodal_reference", "--out"],
        ["multimodal_causal_images.npz", "multimodal_like_31b.npz"],
        PARITY,
    ),
    (["-m", "tools.make_vision_reference", "golden"], ["soft_tokens.npz"], VISION),
]


def assert_same(fresh: Path, committed: Path) -> None:
    """Whole numbers and hashes are equal, computed values nearly so."""
    if committed.suffix == ".json":
        assert json.loads(fresh.read_text()) == json.loads(committed.read_text())
        return
    with np.load(fresh) as made, np.load(committed) as kept:
        assert set(made.files) == set(kept.files)
        for name in kept.files:
            if kept[name].dtype.kind == "f":
                np.testing.assert_allclose(made[name], kept[name], atol=1e-4, rtol=1e-4, err_msg=name)
            else:
                np.testing.assert_array_equal(made[name], kept[name], err_msg=name)


def make_and_compare(target: Path, tool: list[str], files: list[str], folder: Path) -> None:
    done = subprocess.run([str(PYTHON), *tool, str(target)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in target.iterdir()) == files
    for name in files:
        assert_same(target / name, folder / name)


@needs_the_reference
@pytest.mark.parametrize("made", MADE, ids=lambda made: made[1][0])
def test_goldens_made_afresh_are_the_committed_ones(tmp_path, made):
    make_and_compare(tmp_path, *made)


@pytest.mark.slow
@needs_the_reference
@pytest.mark.parametrize("made", MADE_IN_A_WHILE, ids=lambda made: made[1][0])
def test_goldens_of_pictures_made_afresh_are_the_committed_ones(tmp_path, made):
    make_and_compare(tmp_path, *made)
