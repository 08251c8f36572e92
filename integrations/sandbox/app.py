"""What the three services have in common: health, errors, faults, statistics, remembered answers."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from integrations.sandbox.bodies import idempotency_key, read, refuse
from integrations.sandbox.faults import COMMON_KINDS, FaultBoard, FaultList
from integrations.sandbox.middleware import FaultMiddleware, RequestIDMiddleware, request_id_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.types import Lifespan, Scope

    from integrations.sandbox.store import Store

VERSION = "1.0.0"


@dataclass
class Sandbox:
    """One service: its name, what it keeps, and what its testers switched on."""

    name: str
    store: Store
    faults: FaultBoard
    requests: Counter[str] = field(default_factory=Counter)

    @classmethod
    def create(cls, name: str, store: Store, *more_faults: str) -> Sandbox:
        return cls(name, store, FaultBoard(COMMON_KINDS.union(more_faults)))

    def once(self, request: Request, work: Callable[[], dict[str, Any]], status: int) -> tuple[Response, bool]:
        """Answer with what the work returns, doing it once per Idempotency-Key."""
        answer, fresh = self.store.once(idempotency_key(request), lambda: json.dumps(work(), ensure_ascii=False))
        return Response(answer, status, media_type="application/json"), fresh

    def every_time(self, request: Request, work: Callable[[], dict[str, Any]], status: int) -> Response:
        """Answer with what the work returns, as a service does that heeds no Idempotency-Key."""
        answer = self.store.every_time(idempotency_key(request), lambda: json.dumps(work(), ensure_ascii=False))
        return Response(answer, status, media_type="application/json")

    def load(self, kind: str, identity: str) -> dict[str, Any]:
        """Return the kept record, or answer 404."""
        body = self.store.get(kind, identity)
        if body is None:
            raise HTTPException(404, f"There is no {kind} {identity!r}.")
        record: dict[str, Any] = json.loads(body)
        return record

    def save(self, kind: str, identity: str, record: dict[str, Any], *, searchable: str = "") -> None:
        self.store.put(kind, identity, json.dumps(record, ensure_ascii=False), searchable=searchable)

    def save_file(self, kind: str, name: str, content: str, metadata: dict[str, Any]) -> None:
        """Keep a file as ``GET /files/...`` answers it."""
        self.save(kind, name, {"content": content, "metadata": {"originalName": name, **metadata}})


def create_app(
    sandbox: Sandbox,
    routes: Sequence[Route],
    lifespan: Lifespan[Starlette] | None = None,
    *,
    health_path: str = "/health",
    health_word: str = "ok",
) -> Starlette:
    common = _CommonViews(sandbox, health_word)
    all_routes = [
        *routes,
        Route(health_path, common.health),
        Route("/sandbox/stats", common.stats),
        Route("/sandbox/faults", common.list_faults, methods=["GET"]),
        Route("/sandbox/faults", common.put_faults, methods=["PUT"]),
        Route("/sandbox/faults", common.delete_faults, methods=["DELETE"]),
    ]

    def count(scope: Scope) -> None:
        sandbox.requests[_route_label(all_routes, scope)] += 1

    app = Starlette(
        routes=all_routes,
        middleware=[Middleware(RequestIDMiddleware), Middleware(FaultMiddleware, faults=sandbox.faults, count=count)],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # the contract knows no such paths: 404, not a redirect
    return app


class _CommonViews:
    """The endpoints every service has."""

    def __init__(self, sandbox: Sandbox, health_word: str) -> None:
        self._sandbox = sandbox
        self._health_word = health_word

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": self._health_word, "service": self._sandbox.name, "version": VERSION})

    async def stats(self, _: Request) -> Response:
        store = self._sandbox.store
        return JSONResponse(
            {
                "requests": dict(self._sandbox.requests),
                "works": store.count_works(),
                "works_by_key": store.works_by_key(),
                "fault_hits": self._sandbox.faults.count_hits(),
            }
        )

    async def list_faults(self, _: Request) -> Response:
        return JSONResponse({"faults": self._sandbox.faults.describe()})

    async def put_faults(self, request: Request) -> Response:
        wanted = (await read(request, FaultList)).faults
        board = self._sandbox.faults
        for position, fault in enumerate(wanted):
            if fault.kind not in board.kinds:
                refuse(f"faults.{position}.kind: {self._sandbox.name} has no fault {fault.kind!r}")
        board.replace(wanted)
        return await self.list_faults(request)

    async def delete_faults(self, request: Request) -> Response:
        self._sandbox.faults.replace([])
        return await self.list_faults(request)


def _route_label(routes: Sequence[Route], scope: Scope) -> str:
    """Name the request by its route (``GET /tasks/{id}``), so that the statistics stay small."""
    for route in routes:
        if route.matches(scope)[0] is Match.FULL:
            return f"{scope['method']} {route.path}"
    return "unknown"


async def _http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):  # Starlette's type for handlers is wider than what it passes
        raise error
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


async def _unexpected_error(request: Request, _: Exception) -> Response:
    # This answer is made outside of the middleware, which therefore cannot add the id.
    return JSONResponse({"detail": "internal error"}, 500, headers=request_id_header(request))
