"""The Archive stand-in: a ``.last`` file in, an ``.atlas`` entry out, to be found again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.sandbox import app as common
from integrations.sandbox.bodies import Body, check_tree, read, refuse, validate
from integrations.sandbox.identity import new_id, utc_now
from integrations.sandbox.text import fold

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from integrations.sandbox.store import Store

MAX_OFFSET = 1_000_000


class ArchiveMetadata(Body, extra="allow"):
    """What the sender knows about the run; it outweighs what the ``.last`` says."""

    success_rate: float | None = Field(default=None, ge=0, le=1)
    tags: list[str] | None = None


class ArchiveRequest(Body):
    """The body of ``POST /archive``."""

    last_file_id: str = Field(alias="lastFileId", min_length=1, max_length=500)
    last_content: str | dict[str, JsonValue] = Field(alias="lastContent")
    metadata: ArchiveMetadata = Field(default_factory=ArchiveMetadata)


class LastDocument(Body):
    """The parts of a ``.last`` the archive makes use of."""

    title: str | None = None
    summary: str | None = None
    status: str | None = None
    success_rate: float | None = Field(default=None, ge=0, le=1)
    execution_time_ms: float | None = None
    tags: list[str] | None = None
    task_results: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)


class SearchRequest(Body):
    """The body of ``POST /search``."""

    query: str = Field(default="", max_length=1000)
    tags: list[str] | None = Field(default=None, max_length=100)
    min_success_rate: float | None = Field(default=None, ge=0, le=1)
    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET)

    def accepts(self, item: dict[str, Any]) -> bool:
        if self.min_success_rate is not None and item["success_rate"] < self.min_success_rate:
            return False
        return {fold(tag) for tag in self.tags or []} <= {fold(tag) for tag in item["tags"]}


def parse_last(content: str | dict[str, JsonValue]) -> tuple[dict[str, JsonValue], LastDocument]:
    """Return the whole ``.last`` and the parts of it that are used; refuses with 422."""
    document: object = content
    if isinstance(content, str):
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            refuse("lastContent: is not valid JSON")
        check_tree(document)
    if not isinstance(document, dict):
        refuse("lastContent: is not an object")
    return document, validate(LastDocument, document, "lastContent")


def build_atlas(wanted: ArchiveRequest) -> dict[str, Any]:
    """Build the ``.atlas`` document."""
    started = time.perf_counter()
    document, last = parse_last(wanted.last_content)
    segments = [{"id": name, **result} for name, result in last.task_results.items()]
    counts: dict[str, int] = {}
    for segment in segments:
        status = str(segment.get("status", "unknown"))
        counts[status] = counts.get(status, 0) + 1
    rate = wanted.metadata.success_rate
    return {
        "id": new_id(),
        "version": "1.0",
        "last_file_id": wanted.last_file_id,
        "timestamp": utc_now(),
        "success_rate": (last.success_rate or 0.0) if rate is None else rate,
        "content": document,
        "metadata": wanted.metadata.model_dump(exclude_none=True),
        "tags": (last.tags or []) if wanted.metadata.tags is None else wanted.metadata.tags,
        "status": "archived",
        "processing_time_ms": round((time.perf_counter() - started) * 1000, 3),
        "segment_results": segments,
        "analysis_results": {
            "title": last.title or "",
            "summary": last.summary or "",
            "run_status": last.status,
            "execution_time_ms": last.execution_time_ms,
            "task_count": len(segments),
            "tasks_by_status": counts,
        },
    }


def build_item(atlas: dict[str, Any], atlas_file: str) -> dict[str, Any]:
    """Build the short form of an ``.atlas`` that searches return."""
    analysis = atlas["analysis_results"]
    return {
        "id": atlas["id"],
        "last_file_id": atlas["last_file_id"],
        "atlasFileId": atlas_file,
        "title": analysis["title"],
        "summary": analysis["summary"],
        "status": atlas["status"],
        "success_rate": atlas["success_rate"],
        "tags": atlas["tags"],
        "timestamp": atlas["timestamp"],
        "metadata": atlas["metadata"],
    }


class ArchiveViews:
    """The endpoints of the contract."""

    def __init__(self, sandbox: common.Sandbox) -> None:
        self._sandbox = sandbox

    async def archive(self, request: Request) -> Response:
        wanted = await read(request, ArchiveRequest)
        response, _ = self._sandbox.once(request, lambda: self._archive(wanted), 201)
        return response

    def _archive(self, wanted: ArchiveRequest) -> dict[str, Any]:
        atlas = build_atlas(wanted)
        name = f"item_{atlas['id']}.atlas"
        text = json.dumps(atlas, ensure_ascii=False, indent=2)
        answer = {"id": atlas["id"], "status": atlas["status"], "atlasFileId": name}
        self._sandbox.save_file("atlas file", name, text, {"success_rate": atlas["success_rate"]})
        self._sandbox.save("item", atlas["id"], build_item(atlas, name), searchable=fold(text))
        self._sandbox.save("archive entry", atlas["id"], answer)
        return answer

    async def get_entry(self, request: Request) -> Response:
        return JSONResponse(self._sandbox.load("archive entry", request.path_params["id"]))

    async def search(self, request: Request) -> Response:
        return JSONResponse(self.found(await read(request, SearchRequest)))

    def found(self, wanted: SearchRequest) -> dict[str, Any]:
        candidates = map(json.loads, self._sandbox.store.search("item", fold(wanted.query).split()))
        found = [item for item in candidates if wanted.accepts(item)]
        return {"results": found[wanted.offset : wanted.offset + wanted.limit], "count": len(found)}

    async def get_item(self, request: Request) -> Response:
        item = self._sandbox.load("item", request.path_params["id"])
        atlas = json.loads(self._sandbox.load("atlas file", item["atlasFileId"])["content"])
        return JSONResponse({**item, **atlas})

    async def get_file(self, request: Request) -> Response:
        return JSONResponse(self._sandbox.load("atlas file", request.path_params["atlas_file"]))


def create_app(store: Store) -> Starlette:
    sandbox = common.Sandbox.create("archive", store)
    views = ArchiveViews(sandbox)
    return common.create_app(
        sandbox,
        [
            Route("/archive", views.archive, methods=["POST"]),
            Route("/archive/{id}", views.get_entry),
            Route("/search", views.search, methods=["POST"]),
            Route("/items/{id}", views.get_item),
            Route("/files/atlas/{atlas_file}", views.get_file),
        ],
    )
