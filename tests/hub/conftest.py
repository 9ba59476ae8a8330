# SPDX-License-Identifier: Apache-2.0
"""The small Hub of the tests of this folder."""

import pytest
from hub_server import HubServer


@pytest.fixture(scope="module")
def hub():
    """A server without repositories."""
    with HubServer() as server:
        yield server
