from collections.abc import Iterator

import pytest

from integrations.clients import http
from integrations.tests.servers import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    http.forget_connections()
    server.close()
