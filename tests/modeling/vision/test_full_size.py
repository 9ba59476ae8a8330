# SPDX-License-Identifier: Apache-2.0
"""The 31B's vision tower at full width and depth, bf16, against transformers in the reference environment."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from optimum_gemma4.modeling.configuration import Gemma4VisionConfig
from optimum_gemma4.modeling.vision.model import Gemma4ImageEncoder
from optimum_gemma4.modeling.vision.spec import VisionSpec
from optimum_gemma4.simulator.engine.ranks import tensor_parallel
from tests.modeling.vision.helpers import inputs, run, valid_rows
from tests.modeling.vision.toy_vision import FULL_CONFIG, FULL_TEXT_HIDDEN_SIZE, draw_weight


ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("OPTIMUM_GEMMA4_REFERENCE_PYTHON", ROOT / ".venv-reference" / "bin" / "python"))


def full_encoder() -> Gemma4ImageEncoder:
    spec = VisionSpec.from_config(Gemma4VisionConfig(**FULL_CONFIG), FULL_TEXT_HIDDEN_SIZE)
    with tensor_parallel(1):
        encoder = Gemma4ImageEncoder(spec, torch.bfloat16).to(torch.bfloat16).eval()
    for name, tensor in encoder.state_dict().items():
        tensor.copy_(torch.from_numpy(np.asarray(draw_weight(name, tuple(tensor.shape)))))
    return encoder


@pytest.mark.slow
def test_31b_tower_in_bf16_equals_the_reference(tmp_path):
    """Every soft token of one image at the default budget points where transformers' own does."""
    assert PYTHON.exists(), f"{PYTHON} is missing: `make reference-env`, or set OPTIMUM_GEMMA4_REFERENCE_PYTHON"
    file = tmp_path / "soft_tokens.npy"
    command = [str(PYTHON), "-m", "tools.make_vision_reference", "full", str(file)]
    subprocess.run(command, cwd=ROOT, check=True)
    pixels, positions = inputs(280, images=slice(4, 5))
    (rows,) = valid_rows(run(full_encoder(), pixels, positions), positions)
    wanted = np.load(file)
    assert rows.shape == wanted.shape == (14 * 19, FULL_TEXT_HIDDEN_SIZE)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted, axis=1)
    assert ((rows * wanted).sum(axis=1) / norms).min() >= 0.9999
