"""What a run is, and what it leaves behind: the ``.last`` document."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from integrations.sandbox.identity import utc_now
from integrations.sandbox.plan import Plan

ResultStatus = Literal["success", "failed", "not_executed", "skipped", "cancelled"]
RunStatus = Literal["pending", "running", "completed", "failed", "cancelled"]


class Result(BaseModel):
    """How one task ended."""

    status: ResultStatus
    output: str | None = None
    error: str | None = None
    duration_ms: int = 0


class Run(BaseModel):
    """One accepted ``POST /run``, as it is kept. Results are kept one by one beside it."""

    id: str
    alt_file_id: str
    plan: Plan
    mode: str
    persona: str
    priority: str | int | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    callback_url: str | None = None
    request_id: str | None = None
    status: RunStatus = "pending"
    progress: int = 0
    started_at: str | None = None
    ended_at: str | None = None
    last_file_id: str | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        return self.status in {"completed", "failed", "cancelled"}

    def start(self) -> None:
        self.status = "running"
        self.started_at = self.started_at or utc_now()

    def finish(self, results: dict[str, Result], *, cancelled: bool) -> None:
        self.ended_at = utc_now()
        self.last_file_id = f"result_{self.id}.last"
        self.error = next((result.error for result in results.values() if result.status == "failed"), None)
        succeeded = any(result.status == "success" for result in results.values())
        if cancelled:
            self.status = "cancelled"
        elif self.error is not None and not succeeded:
            self.status, self.progress = "failed", 100
        else:
            self.status, self.progress, self.error = "completed", 100, None

    def public(self) -> dict[str, Any]:
        """Return the body of ``GET /tasks/{id}`` and of the callback."""
        body: dict[str, Any] = {"id": self.id, "status": self.status, "progress": self.progress}
        if self.last_file_id is not None:
            body["lastFileId"] = self.last_file_id
        if self.error is not None:
            body["error"] = self.error
        return body


def build_last(run: Run, results: dict[str, Result]) -> dict[str, Any]:
    """Build the ``.last`` of a run that is over."""
    started, ended = run.started_at or run.ended_at or utc_now(), run.ended_at or utc_now()
    succeeded = sum(result.status == "success" for result in results.values())
    return {
        "id": run.last_file_id,
        "execution_id": run.id,
        "alt_file_id": run.alt_file_id,
        "title": run.plan.title,
        "mode": run.mode,
        "persona": run.persona,
        "status": _last_status(succeeded, len(results)),
        "success_rate": round(succeeded / len(results), 4),
        "execution_time_ms": _milliseconds_between(started, ended),
        "start_time": started,
        "end_time": ended,
        "task_results": {identity: result.model_dump() for identity, result in results.items()},
        "artifacts": [],
        "metadata": {"priority": run.priority, "parameters": run.parameters, "run_status": run.status},
        "tags": run.plan.tags,
        "execution_graph": {
            "nodes": [
                {"id": task.id, "label": task.text[:200], "status": results[task.id].status} for task in run.plan.tasks
            ],
            "edges": [
                {"from": dependency, "to": task.id} for task in run.plan.tasks for dependency in task.dependencies
            ],
        },
        "summary": _summary(run, results, succeeded),
        "version": "1.0",
    }


def _last_status(succeeded: int, total: int) -> str:
    if succeeded == total:
        return "success"
    return "partialsuccess" if succeeded else "failure"


def _milliseconds_between(start: str, end: str) -> int:
    elapsed = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return max(0, round(elapsed.total_seconds() * 1000))


def _summary(run: Run, results: dict[str, Result], succeeded: int) -> str:
    counts = [
        f"{count} {status.replace('_', ' ')}"
        for status in ("failed", "not_executed", "skipped", "cancelled")
        if (count := sum(result.status == status for result in results.values()))
    ]
    others = f" ({', '.join(counts)})" if counts else ""
    opening = "The run was cancelled: " if run.status == "cancelled" else ""
    return f"{opening}{succeeded} of {len(results)} tasks succeeded{others}."
