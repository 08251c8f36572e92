"""Segmentation B: modes with a capital letter, and the ``.alt`` lies in the shared folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from starlette.routing import Route

from integrations.sandbox import app as common
from integrations.sandbox.bodies import read
from integrations.sandbox.segmentation import SegmentRequest, alt_text, build_alt
from integrations.sandbox.shared import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from integrations.sandbox.store import Store


class SegmentBRequest(SegmentRequest):
    """The body of ``POST /segment``."""

    mode: Literal["Normal", "Dream", "Explore", "Chaos"] = "Normal"


def create_app(store: Store, shared_dir: Path) -> Starlette:
    sandbox = common.Sandbox.create("segmentation", store, "cycle")

    async def segment(request: Request) -> Response:
        wanted = await read(request, SegmentBRequest)

        def work() -> dict[str, Any]:
            alt = build_alt(wanted, cycle=sandbox.faults.take("cycle", "POST", "/segment"))
            path = shared_dir / f"{alt['id']}.alt"
            write_file(path, alt_text(alt))
            return {
                "segmentation_id": alt["id"],
                "status": "success",
                "alt_file_path": str(path),
                "message": f"{len(alt['segments'])} segments",
                "mode_used": wanted.mode,
                "persona_used": wanted.persona,
            }

        return sandbox.every_time(request, work, 200)

    return common.create_app(sandbox, [Route("/segment", segment, methods=["POST"])])
