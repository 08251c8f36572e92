"""Archive B: it names no file. The entry itself, at another path, is the `.atlas`."""

import json
from urllib.parse import urlencode

from integrations.clients.archive import ArchiveAnswer, ArchiveClient, SearchRequest
from integrations.clients.base import WorkState, path_segment
from integrations.clients.errors import InvalidAnswerError


class Client(ArchiveClient):
    def file_of(self, answer: ArchiveAnswer) -> str | None:
        return answer.id if self.state_of(answer.status) is WorkState.DONE else None

    def search(self, request: SearchRequest) -> list[str]:
        members = request.members()
        if request.tags:
            members["tags"] = ",".join(request.tags)
        return self._found("GET", f"/atlas/search?{urlencode(members)}", request)

    def fetch(self, file_id: str) -> str:
        entry = self.ask_json("GET", f"/atlas/{path_segment(file_id)}")
        if not isinstance(entry, dict) or str(entry.get("id")) != file_id:
            raise InvalidAnswerError("id: it speaks of another entry")
        try:
            return json.dumps(entry, ensure_ascii=False)
        except RecursionError as error:
            raise InvalidAnswerError("the entry is nested too deep") from error
