from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from integrations.clients.base import Answer, StageClient, WorkReport, WorkState, path_segment
from integrations.registry import ServiceKind


@dataclass(frozen=True)
class SegmentRequest:
    command: str
    mode: str
    persona: str
    user_id: str
    metadata: dict[str, Any]


class SegmentAnswer(Answer):
    id: str
    status: str
    alt_file: str | None = None
    error: str | None = None


class SegmentationClient(StageClient[SegmentRequest]):
    """Text in, `.alt` out."""

    kind = ServiceKind.SEGMENTATION
    files_path = "/files/alt"
    states: ClassVar = {
        "pending": WorkState.WORKING,
        "processing": WorkState.WORKING,
        "completed": WorkState.DONE,
        "success": WorkState.DONE,
        "error": WorkState.FAILED,
        "failed": WorkState.FAILED,
    }

    def submit(self, request: SegmentRequest, *, idempotency_key: str) -> WorkReport:
        return self.ask_report("POST", "/segment", body=self.body(request), idempotency_key=idempotency_key)

    def report(self, remote_id: str) -> WorkReport:
        return self.about(remote_id, self.ask_report("GET", f"/segment/{path_segment(remote_id)}"))

    def body(self, request: SegmentRequest) -> dict[str, Any]:
        return asdict(request)

    def ask_report(self, method: str, path: str, **options: Any) -> WorkReport:
        answer = self.ask(SegmentAnswer, method, path, **options)
        return self.work_report(remote_id=answer.id, status=answer.status, file_id=answer.alt_file, error=answer.error)
