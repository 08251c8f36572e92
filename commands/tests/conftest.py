"""What the tests of commands share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Sandbox, SandboxService, start_service
from gateway.embedded.children import stop


@pytest.fixture
def second_runner(sandbox: Sandbox, settings: Any, tmp_path: Path) -> Iterator[SandboxService]:
    """Another runner, which knows nothing of what the first one did."""
    service, child = start_service("runner", tmp_path)
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": [sandbox.runner.url, service.url]}
    yield service
    stop([child])
