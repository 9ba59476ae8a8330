# SPDX-License-Identifier: Apache-2.0
"""Exported random models, with and without a vision encoder, made once for the tests of this folder."""

import pytest
from causal_lm_calls import CONTINUOUS, ON_DEVICE
from image_conversations import CONTINUOUS as IMAGES_CONTINUOUS
from image_conversations import STATIC as IMAGES_STATIC
from random_models import write_random_image_checkpoint


@pytest.fixture(scope="session")
def image_checkpoint(tmp_path_factory):
    """The small random model with a vision encoder."""
    return write_random_image_checkpoint(tmp_path_factory.mktemp("random_image") / "checkpoint")


@pytest.fixture(scope="session")
def host(exports, random_checkpoint):
    """The text model with its logits on the host."""
    return exports.model(random_checkpoint, **CONTINUOUS)


@pytest.fixture(scope="session")
def device(exports, random_checkpoint):
    """The text model on two ranks, which choose the tokens."""
    return exports.model(random_checkpoint, **ON_DEVICE)


@pytest.fixture(scope="session")
def sees(image_exports, image_checkpoint):
    """The model that takes images, on one rank, with its logits on the host."""
    return image_exports.model(image_checkpoint, **IMAGES_CONTINUOUS)


@pytest.fixture(scope="session")
def sees_static(image_exports, image_checkpoint):
    """The same on four ranks, without continuous batching."""
    return image_exports.model(image_checkpoint, **IMAGES_STATIC)
