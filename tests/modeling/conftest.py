# SPDX-License-Identifier: Apache-2.0
"""A random checkpoint and its exports, made once for the tests of this folder."""

import pytest
from exported_models import Exports
from random_models import write_random_checkpoint


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """The small random text model of `random_models`."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random") / "checkpoint")


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """See `exported_models.Exports`."""
    return Exports(tmp_path_factory.mktemp("exports"))
