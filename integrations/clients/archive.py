from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from integrations.clients.base import Answer, StageClient, WorkReport, WorkState, path_segment
from integrations.registry import ServiceKind


@dataclass(frozen=True)
class ArchiveRequest:
    last_file_id: str
    last_content: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SearchRequest:
    query: str
    tags: list[str]
    min_success_rate: float | None  # 0 to 1
    limit: int
    offset: int

    def members(self) -> dict[str, Any]:
        """Return what is asked for; what is not is left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, [])}


class ArchiveAnswer(Answer):
    id: str
    status: str
    atlasFileId: str | None = None  # noqa: N815 - the contract's name
    error: str | None = None


class FoundAnswer(Answer):
    id: str


class SearchAnswer(Answer):
    results: list[FoundAnswer]


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

    def search(self, request: SearchRequest) -> list[str]:
        """Return the ids of the entries found, anybody's, in the archive's order; at most `limit`."""
        return self._found("POST", "/search", request, body=request.members())

    def _found(self, method: str, path: str, request: SearchRequest, **options: Any) -> list[str]:
        answer = self.ask(SearchAnswer, method, path, is_search=True, **options)
        found = [entry.id for entry in answer.results[: request.limit]]
        for entry_id in found:
            path_segment(entry_id)  # what no database can look for is no id
        return found

    def file_of(self, answer: ArchiveAnswer) -> str | None:
        """Return the name of the `.atlas`, once there is one."""
        return answer.atlasFileId

    def _report(self, answer: ArchiveAnswer) -> WorkReport:
        return self.work_report(
            remote_id=answer.id, status=answer.status, file_id=self.file_of(answer), error=answer.error
        )
