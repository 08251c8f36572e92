from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from integrations.sandbox import archive, runner, segmentation
from integrations.sandbox.store import Store
from integrations.sandbox.tests.processes import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from starlette.applications import Starlette

    Serve = Callable[[Starlette], AbstractAsyncContextManager[httpx.AsyncClient]]
    StartService = Callable[[str], ServiceProcess]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store.open(None, "test")
    yield store
    store.close()


@pytest.fixture
def serve() -> Serve:
    """Run an application in this process, lifespan included."""

    @asynccontextmanager
    async def serving(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client,
        ):
            yield client

    return serving


@pytest.fixture
async def segmentation_client(store: Store, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(segmentation.create_app(store)) as client:
        yield client


@pytest.fixture
async def runner_client(store: Store, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(runner.create_app(store)) as client:
        yield client


@pytest.fixture
async def archive_client(store: Store, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(archive.create_app(store)) as client:
        yield client


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartService]:
    """Start real processes of the services; all of one test share a state directory."""
    started: list[ServiceProcess] = []

    def start_service(name: str) -> ServiceProcess:
        started.append(ServiceProcess(name, tmp_path / "state"))
        return started[-1]

    yield start_service
    for process in started:
        process.close()
