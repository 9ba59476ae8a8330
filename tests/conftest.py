# SPDX-License-Identifier: Apache-2.0
"""What every test gets: one thread, the simulator, the trained tiny checkpoint and exports made once per session."""

import os
from pathlib import Path


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OPTIMUM_GEMMA4_BACKEND", "simulator")

import pytest  # noqa: E402
import torch  # noqa: E402

import optimum_gemma4  # noqa: E402, F401  (puts the simulator in place before any test imports the SDK)


torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Path:
    """The small trained Gemma 4, in the Hub's layout."""
    return ROOT / "examples" / "gemma4-tiny"
