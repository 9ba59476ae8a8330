# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden():
    return dict(np.load(Path(__file__).parent / "golden" / "soft_tokens.npz"))
