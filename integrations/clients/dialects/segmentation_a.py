"""Segmentation A: takes four members and no more, and so is not told whose command it is."""

from typing import Any

from integrations.clients.segmentation import SegmentationClient, SegmentRequest


class Client(SegmentationClient):
    def body(self, request: SegmentRequest) -> dict[str, Any]:
        return {
            "command": request.command,
            "mode": request.mode,
            "persona": request.persona,
            "metadata": request.metadata,
        }
