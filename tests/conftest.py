# SPDX-License-Identifier: Apache-2.0
"""What every test gets: one thread, the simulator, the trained tiny checkpoint and exports made once per session."""

import os
from pathlib import Path


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OPTIMUM_GEMMA4_BACKEND", "simulator")

import pytest  # noqa: E402
import torch  # noqa: E402
from commands import Finished, optimum_cli  # noqa: E402
from exported_models import Exports  # noqa: E402
from random_models import write_random_checkpoint  # noqa: E402

from optimum_gemma4 import NeuronModelForImageTextToText  # noqa: E402  (puts the simulator in place of the SDK)


torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Path:
    """The small trained Gemma 4, in the Hub's layout."""
    return ROOT / "examples" / "gemma4-tiny"


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory) -> Path:
    """The small random text model of `random_models`."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random") / "checkpoint")


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> Exports:
    """Exports of models of text: see `exported_models.Exports`."""
    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def image_exports(tmp_path_factory) -> Exports:
    """Exports of models that take images."""
    return Exports(tmp_path_factory.mktemp("image_exports"), NeuronModelForImageTextToText)


@pytest.fixture(scope="session")
def cli_export(tiny_checkpoint, tmp_path_factory) -> tuple[Finished, Path]:
    """The trained checkpoint with its vision encoder, exported by the real command at tp 2, for two prompts at once.

    The command's end and the artifact.
    """
    folder = tmp_path_factory.mktemp("cli")
    output = folder / "a new folder" / "with spaces"
    shapes = ("--instance_type", "trn2", "--batch_size", 2, "--sequence_length", 224, "--tensor_parallel_size", 2)
    command = ("export", "neuron", "--model", tiny_checkpoint, *shapes, "--max_soft_tokens", "140,70", output)
    return optimum_cli(*command, cwd=folder), output
