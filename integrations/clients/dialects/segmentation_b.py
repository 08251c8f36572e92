"""Segmentation B: other names, modes with a capital letter, and the `.alt` lies in a folder that it shares.

It does the work again for every repeat, whatever the key: that leaves a second `.alt`, which nobody looks at.
"""

from typing import Any, ClassVar

from pydantic import StrictStr

from integrations.clients.base import Answer, WorkReport
from integrations.clients.dialects import segmentation_a
from integrations.clients.segmentation import SegmentRequest
from integrations.clients.shared_folder import SharedFolder


class SegmentBAnswer(Answer):
    segmentation_id: str
    status: str
    alt_file_path: StrictStr | None = None
    message: str | None = None


class Client(segmentation_a.Client):
    needs_shared_folder: ClassVar = True

    def body(self, request: SegmentRequest) -> dict[str, Any]:
        return super().body(request) | {"mode": request.mode.capitalize()}

    def ask_report(self, method: str, path: str, **options: Any) -> WorkReport:
        answer = self.ask(SegmentBAnswer, method, path, **options)
        alt = answer.alt_file_path
        return self.work_report(
            remote_id=answer.segmentation_id,
            status=answer.status,
            file_id=SharedFolder.of(self.kind).name_of(alt) if alt else None,
            error=answer.message,
        )

    def fetch(self, file_id: str) -> str:
        return SharedFolder.of(self.kind).read(file_id)
