"""The Runner stand-in: an ``.alt`` file in, its tasks done, a ``.last`` file out."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import Field, JsonValue, field_validator
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.sandbox import app as common
from integrations.sandbox.bodies import Body, read
from integrations.sandbox.callbacks import CallbackSender
from integrations.sandbox.engine import Engine
from integrations.sandbox.faults import CALLBACK_KINDS
from integrations.sandbox.identity import new_id
from integrations.sandbox.plan import read_plan
from integrations.sandbox.runs import Run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.applications import Starlette
    from starlette.requests import Request

    from integrations.sandbox.store import Store


MAX_PORT = 65_535


class RunOptions(Body):
    """How the run is to be done."""

    mode: str = Field(default="normal", max_length=100)
    persona: str = Field(default="technical_expert", max_length=100)
    priority: str | int | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    callback_url: str | None = Field(default=None, max_length=2000)

    @field_validator("callback_url")
    @classmethod
    def http_only(cls, address: str | None) -> str | None:
        if address is None:
            return None
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL as error:
            raise ValueError("is not a URL") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("must be an http or https URL")
        if url.port is not None and not 0 < url.port <= MAX_PORT:
            raise ValueError("has a port that does not exist")
        return address


class RunRequest(Body):
    """The body of ``POST /run``."""

    alt_file_id: str = Field(alias="altFileId", min_length=1, max_length=500)
    alt_content: str | dict[str, JsonValue] = Field(alias="altContent")
    options: RunOptions = Field(default_factory=RunOptions)


class RunnerViews:
    """The endpoints of the contract."""

    def __init__(self, sandbox: common.Sandbox, publish: Callable[[str, str], None] | None = None) -> None:
        self._sandbox = sandbox
        self._publish = publish
        self._engine: Engine | None = None

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        callbacks = CallbackSender()
        self._engine = Engine(self._sandbox, callbacks, self._publish)
        self._engine.resume()
        try:
            yield
        finally:
            await self._engine.close()
            await callbacks.close()

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("The runner answers only within its lifespan.")
        return self._engine

    async def run(self, request: Request) -> Response:
        wanted = await read(request, RunRequest)
        run = Run(
            id=new_id(),
            alt_file_id=wanted.alt_file_id,
            plan=read_plan(wanted.alt_content),
            request_id=_passable(request.headers.get("X-Request-ID", "")),
            **wanted.options.model_dump(),
        )

        def accept() -> dict[str, Any]:
            self.engine.accept(run)
            return {"taskId": run.id, "status": run.status}

        response, fresh = self._sandbox.once(request, accept, 202)
        if fresh:
            faults = self._sandbox.faults
            bad_news = next((kind for kind in CALLBACK_KINDS if faults.take(kind, "POST", "/run")), None)
            self.engine.start(run, held=faults.take("never_finish", "POST", "/run"), bad_news=bad_news)
        return response

    def _find(self, request: Request) -> Run:
        identity = request.path_params["id"]
        run = self.engine.find(identity)
        if run is None:
            raise HTTPException(404, f"There is no task {identity!r}.")
        return run

    async def get_task(self, request: Request) -> Response:
        return JSONResponse(self._find(request).public())

    async def cancel(self, request: Request) -> Response:
        run = self._find(request)
        self.engine.cancel(run)
        return JSONResponse({"status": run.status})

    async def get_file(self, request: Request) -> Response:
        return JSONResponse(self._sandbox.load("last file", request.path_params["last_file"]))


def _passable(header: str) -> str | None:
    """Return the header if it may be sent on: a server takes in more than a client may send."""
    return header if header and header.isascii() and header.isprintable() else None


def create_app(store: Store) -> Starlette:
    sandbox = common.Sandbox.create("runner", store, "lost_task", "never_finish", *CALLBACK_KINDS)
    views = RunnerViews(sandbox)
    return common.create_app(
        sandbox,
        [
            Route("/run", views.run, methods=["POST"]),
            Route("/tasks/{id}", views.get_task),
            Route("/tasks/{id}/cancel", views.cancel, methods=["POST"]),
            Route("/files/last/{last_file}", views.get_file),
        ],
        lifespan=views.lifespan,
    )
