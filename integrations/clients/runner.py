from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from integrations.clients.base import Answer, StageClient, WorkReport, WorkState, parse, path_segment
from integrations.clients.errors import InvalidAnswerError
from integrations.registry import ServiceKind


@dataclass(frozen=True)
class RunRequest:
    alt_file_id: str
    alt_content: str  # the tasks dialect, as JSON
    mode: str
    persona: str
    priority: str
    parameters: dict[str, Any]
    callback_url: str


class RunAnswer(Answer):
    taskId: str  # noqa: N815 - the contract's name


class TaskAnswer(Answer):
    id: str
    status: str
    progress: Annotated[float, Field(allow_inf_nan=False)] | None = None
    lastFileId: str | None = None  # noqa: N815 - the contract's name
    error: str | None = None


class RunnerClient(StageClient[RunRequest]):
    """`.alt` in, `.last` out. It accepts at once and works later."""

    kind = ServiceKind.RUNNER
    files_path = "/files/last"
    states: ClassVar = {
        "pending": WorkState.WORKING,
        "running": WorkState.WORKING,
        "completed": WorkState.DONE,
        "failed": WorkState.FAILED,
        "cancelled": WorkState.CANCELLED,
    }

    def submit(self, request: RunRequest, *, idempotency_key: str) -> WorkReport:
        body = {
            "altFileId": request.alt_file_id,
            "altContent": request.alt_content,
            "options": {
                "mode": request.mode,
                "persona": request.persona,
                "priority": request.priority,
                "parameters": request.parameters,
                "callback_url": request.callback_url,
            },
        }
        answer = self.ask(RunAnswer, "POST", "/run", body=body, idempotency_key=idempotency_key)
        path_segment(answer.taskId)
        # Whatever its status: only the task itself, when it is asked, names the file.
        return WorkReport(answer.taskId, WorkState.WORKING)

    def report(self, remote_id: str) -> WorkReport:
        return self.read_report(
            self.ask(TaskAnswer, "GET", f"/tasks/{path_segment(remote_id)}").model_dump(), remote_id=remote_id
        )

    @classmethod
    def read_report(cls, body: Any, *, remote_id: str) -> WorkReport:
        """Check what the runner says of a task, when asked or by its callback. Raises InvalidAnswerError."""
        answer = parse(TaskAnswer, body)
        if answer.id != remote_id:
            raise InvalidAnswerError("id: it speaks of another task")
        return cls.work_report(
            remote_id=remote_id,
            status=answer.status,
            file_id=answer.lastFileId,
            progress=answer.progress,
            error=answer.error,
        )

    def cancel(self, remote_id: str) -> None:
        self.ask(Answer, "POST", f"/tasks/{path_segment(remote_id)}/cancel")
