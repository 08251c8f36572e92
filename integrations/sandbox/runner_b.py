"""Runner B: reads an ``.alt`` of the *tasks* dialect from the shared folder, and leaves its ``.last`` there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.sandbox import app as common
from integrations.sandbox.bodies import Body, check_tree, read, refuse, validate
from integrations.sandbox.identity import new_id
from integrations.sandbox.plan import read_plan
from integrations.sandbox.runner import RunnerViews
from integrations.sandbox.runs import Run
from integrations.sandbox.shared import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.requests import Request

    from integrations.sandbox.store import Store

PROCESS = "/api/v1/process"
Mode = Literal["normal", "dream", "explore", "chaos"]
Priority = Literal["low", "medium", "high", "critical"]


class ProcessRequest(Body):
    """The body of ``POST /api/v1/process``."""

    file_path: str = Field(min_length=1, max_length=4000)
    priority: Priority = "medium"
    mode: Mode = "normal"
    persona: str = Field(default="technical_expert", max_length=100)


class TasksDocument(Body):
    """What it takes an ``.alt`` for; the tasks themselves are read as a plan."""

    id: str = Field(min_length=1, max_length=500)
    version: str
    created_at: str
    mode: Mode
    persona: str
    tasks: list[dict[str, JsonValue]]
    metadata: dict[str, JsonValue]
    priority: Priority | None = None


class RunnerBViews(RunnerViews):
    """The endpoints of this dialect."""

    def __init__(self, sandbox: common.Sandbox, shared_dir: Path) -> None:
        super().__init__(sandbox, lambda run_id, last: write_file(shared_dir / f"last_{run_id}.json", last))
        self._shared_dir = shared_dir

    async def process(self, request: Request) -> Response:
        wanted = await read(request, ProcessRequest)
        document = self._read_alt(wanted.file_path)
        alt = validate(TasksDocument, document, "file")
        run = Run(
            id=new_id(),
            alt_file_id=alt.id,
            plan=read_plan(document),
            mode=wanted.mode,
            persona=wanted.persona,
            priority=wanted.priority,
        )

        def accept() -> dict[str, Any]:
            self.engine.accept(run)
            return {"request_id": run.id, "alt_file_id": alt.id, "status": "processing", "last_file_path": None}

        response = self._sandbox.every_time(request, accept, 202)
        self.engine.start(run, held=self._sandbox.faults.take("never_finish", "POST", PROCESS))
        return response

    def _read_alt(self, file_path: str) -> dict[str, Any]:
        path = self._shared_dir / file_path
        try:
            if not path.is_relative_to(self._shared_dir):
                refuse("file_path: lies outside of the shared folder")
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            refuse(f"file_path: there is no file {file_path!r}", 404)
        except (ValueError, RecursionError):
            refuse("file: is not JSON")
        check_tree(document)
        if not isinstance(document, dict):
            refuse("file: is not an object")
        return document

    async def status(self, _: Request) -> Response:
        return JSONResponse({"status": "running", "active_tasks": self.engine.live_runs})


def create_app(store: Store, shared_dir: Path) -> Starlette:
    sandbox = common.Sandbox.create("runner", store, "never_finish")
    views = RunnerBViews(sandbox, shared_dir)
    return common.create_app(
        sandbox,
        [Route(PROCESS, views.process, methods=["POST"]), Route("/api/v1/status", views.status)],
        lifespan=views.lifespan,
        health_path="/api/v1/health",
    )
