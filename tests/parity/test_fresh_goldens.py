# SPDX-License-Identifier: Apache-2.0
"""The committed goldens are what transformers computes: made afresh where the reference environment exists."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest


ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("OPTIMUM_GEMMA4_REFERENCE_PYTHON", ROOT / ".venv-reference" / "bin" / "python"))
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.skipif(not PYTHON.is_file(), reason="no reference environment: make reference-env")
@pytest.mark.parametrize(
    ("tool", "file"), [("make_reference.py", "gemma4-tiny.npz"), ("make_greedy_reference.py", "greedy_models.npz")]
)
def test_goldens_made_afresh_are_the_committed_ones(tmp_path, tool, file):
    command = [PYTHON, ROOT / "tools" / tool, "--out", tmp_path]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / file) as fresh, np.load(GOLDEN / file) as committed:
        assert set(fresh.files) == set(committed.files)
        for name in committed.files:
            if name.endswith(".logits"):
                np.testing.assert_allclose(fresh[name], committed[name], atol=1e-4, rtol=0)
            else:
                np.testing.assert_array_equal(fresh[name], committed[name])
