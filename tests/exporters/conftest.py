# SPDX-License-Identifier: Apache-2.0
"""The small checkpoint of `checkpoints`, for the tests of this folder: its configuration and its tensors."""

import pytest
import torch
from checkpoints import random_tensors, small_config, text_shapes, vision_shapes

from optimum_gemma4 import Gemma4Config


@pytest.fixture(scope="session")
def config() -> Gemma4Config:
    """Text and vision."""
    return Gemma4Config.from_dict(small_config())


@pytest.fixture(scope="session")
def tensors() -> dict[str, torch.Tensor]:
    """All of them, by the checkpoint's names."""
    return random_tensors(text_shapes(small_config()) | vision_shapes(small_config()))
