# SPDX-License-Identifier: Apache-2.0
"""The committed goldens of this folder, as tensors."""

from pathlib import Path

import numpy as np
import torch


FOLDER = Path(__file__).parent / "golden"


def load_golden(name: str) -> dict[str, torch.Tensor]:
    """What a script of `tools/` wrote to `NAME.npz`."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(value) for key, value in file.items()}
