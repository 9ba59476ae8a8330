# SPDX-License-Identifier: Apache-2.0
"""Exports of upstream's models, shared by the tests of this folder."""

import pytest


@pytest.fixture(scope="session")
def upstream(tmp_path_factory):
    """optimum-neuron's own tiny models, exported and loaded once for each configuration."""
    from sim_upstream import Upstream

    return Upstream(tmp_path_factory.mktemp("upstream"))
