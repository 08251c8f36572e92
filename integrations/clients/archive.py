from dataclasses import dataclass
from typing import Any, ClassVar

from integrations.clients.base import Answer, StageClient, WorkReport, WorkState, path_segment
from integrations.registry import ServiceKind


@dataclass(frozen=True)
class ArchiveRequest:
    last_file_id: str
    last_content: str
    metadata: dict[str, Any]


class ArchiveAnswer(Answer):
    id: str
    status: str
    atlasFileId: str | None = None  # noqa: N815 - the contract's name
    error: str | None = None


class ArchiveClient(StageClient[ArchiveRequest]):
    """`.last` in, `.atlas` out."""

    kind = ServiceKind.ARCHIVE
    files_path = "/files/atlas"
    states: ClassVar = {
        "received": WorkState.WORKING,
        "processing": WorkState.WORKING,
        "archived": WorkState.DONE,
        "failed": WorkState.FAILED,
    }

    def submit(self, request: ArchiveRequest, *, idempotency_key: str) -> WorkReport:
        body = {"lastFileId": request.last_file_id, "lastContent": request.last_content, "metadata": request.metadata}
        answer = self.ask(ArchiveAnswer, "POST", "/archive", body=body, idempotency_key=idempotency_key)
        if self.state_of(answer.status) is WorkState.DONE and not self.file_of(answer):
            # The contract lets the first answer leave the file out; the entry itself names it.
            return WorkReport(answer.id, WorkState.WORKING)
        return self._report(answer)

    def report(self, remote_id: str) -> WorkReport:
        answer = self.ask(ArchiveAnswer, "GET", f"/archive/{path_segment(remote_id)}")
        return self.about(remote_id, self._report(answer))

    def file_of(self, answer: ArchiveAnswer) -> str | None:
        """Return the name of the `.atlas`, once there is one."""
        return answer.atlasFileId

    def _report(self, answer: ArchiveAnswer) -> WorkReport:
        return self.work_report(
            remote_id=answer.id, status=answer.status, file_id=self.file_of(answer), error=answer.error
        )
