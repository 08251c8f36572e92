"""Archive B: names no file, and serves entries and searches at paths of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.sandbox import app as common
from integrations.sandbox.archive import ArchiveRequest, ArchiveViews, SearchRequest
from integrations.sandbox.bodies import read, refuse, validate

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from integrations.sandbox.store import Store


class ArchiveBViews(ArchiveViews):
    """The endpoints of this dialect."""

    async def archive(self, request: Request) -> Response:
        wanted = await read(request, ArchiveRequest)

        def work() -> dict[str, Any]:
            return {"status": "received", "id": self._archive(wanted)["id"]}

        response, _ = self._sandbox.once(request, work, 202)
        return response

    async def get_entry(self, request: Request) -> Response:
        entry = self._sandbox.load("archive entry", request.path_params["id"])
        return JSONResponse({"id": entry["id"], "status": entry["status"]})

    async def get_item(self, request: Request) -> Response:
        item = self._sandbox.load("item", request.path_params["id"])
        return JSONResponse(json.loads(self._sandbox.load("atlas file", item["atlasFileId"])["content"]))

    async def search_by_query(self, request: Request) -> Response:
        query = request.query_params
        try:
            numbers = {name: int(query[name]) for name in ("limit", "offset") if name in query}
            rate = {"min_success_rate": float(query["min_success_rate"])} if "min_success_rate" in query else {}
        except ValueError:
            refuse("limit, offset and min_success_rate are numbers")
        tags = [tag for given in query.getlist("tags") for tag in given.split(",") if tag]
        wanted = validate(SearchRequest, {"query": query.get("query", ""), "tags": tags, **numbers, **rate})
        return JSONResponse(self.found(wanted))


def create_app(store: Store) -> Starlette:
    sandbox = common.Sandbox.create("archive", store)
    views = ArchiveBViews(sandbox)
    return common.create_app(
        sandbox,
        [
            Route("/archive", views.archive, methods=["POST"]),
            Route("/archive/{id}", views.get_entry),
            Route("/atlas/search", views.search_by_query),
            Route("/atlas/{id}", views.get_item),
        ],
        health_word="UP",
    )
