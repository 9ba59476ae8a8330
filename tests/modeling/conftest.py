# SPDX-License-Identifier: Apache-2.0
"""Random checkpoints, with and without a vision encoder, and their exports, made once for the tests of this folder."""

import pytest
from exported_models import Exports
from random_models import write_random_checkpoint, write_random_image_checkpoint

from optimum_gemma4 import NeuronModelForImageTextToText


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """The small random text model of `random_models`."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random") / "checkpoint")


@pytest.fixture(scope="session")
def image_checkpoint(tmp_path_factory):
    """The small random model with a vision encoder."""
    return write_random_image_checkpoint(tmp_path_factory.mktemp("random_image") / "checkpoint")


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """See `exported_models.Exports`."""
    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def image_exports(tmp_path_factory):
    """Exports of models that take images."""
    return Exports(tmp_path_factory.mktemp("image_exports"), NeuronModelForImageTextToText)
