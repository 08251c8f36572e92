"""What the tests of commands share."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from commands import history, retention
from commands.models import RollupMark
from conftest import Sandbox, SandboxService, start_service
from gateway.embedded.children import stop


@pytest.fixture
def second_runner(sandbox: Sandbox, settings: Any, tmp_path: Path) -> Iterator[SandboxService]:
    """Another runner, which knows nothing of what the first one did."""
    service, child = start_service("runner", tmp_path)
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": [sandbox.runner.url, service.url]}
    yield service
    stop([child])


@pytest.fixture
def counted(db):
    """Let everything be in the statistics."""
    RollupMark.objects.update(until=datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def at(monkeypatch):
    """Let it be this moment for retention."""

    def set_clock(moment):
        monkeypatch.setattr(retention.timezone, "now", lambda: moment)

    return set_clock


@pytest.fixture
def near(monkeypatch):
    """Let a page look at few commands one by one, so that a handful are enough to be too many."""

    def set_near(number):
        for name in ("NEAR", "FIRST_PIECE", "PIECE"):
            monkeypatch.setattr(history, name, number)
        monkeypatch.setattr(history, "FAR", 5 * number)

    set_near(3)
    return set_near


@pytest.fixture
def alice_client(api, alice):
    client = api(alice)
    assert client.get("/api/v2/me").status_code == 200  # from now on it is known who she is
    return client
