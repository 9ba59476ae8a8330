# SPDX-License-Identifier: Apache-2.0
"""The small Hub of the tests of this folder, and a user of it."""

import pytest
from hub_client import Client
from hub_server import HubServer


@pytest.fixture(scope="session")
def hub():
    """A server; each test has repositories of its own."""
    with HubServer() as server:
        yield server


@pytest.fixture(scope="session")
def client(hub, tmp_path_factory):
    """A process that pushes and pulls, see `hub_client.Client`."""
    client = Client(hub.url, tmp_path_factory.mktemp("client"))
    yield client
    client.close()
