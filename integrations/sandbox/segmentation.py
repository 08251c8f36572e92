"""The Segmentation stand-in: a command's text in, an ``.alt`` file of tasks out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field, JsonValue, field_validator
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.sandbox import app as common
from integrations.sandbox.bodies import Body, read, refuse
from integrations.sandbox.identity import new_id, utc_now
from integrations.sandbox.splitter import classify, detect_language, split

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from integrations.sandbox.store import Store

MODES = ("normal", "dream", "explore", "chaos")
MAX_COMMAND_LENGTH = 100_000
MAX_TASKS = 1000
MAX_CHAOS_LEVEL = 10


class SegmentRequest(Body):
    """The body of ``POST /segment``."""

    command: str = Field(max_length=MAX_COMMAND_LENGTH)
    mode: str = "normal"
    persona: str = Field(default="technical_expert", min_length=1, max_length=100)
    user_id: str | int | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("command")
    @classmethod
    def not_blank(cls, command: str) -> str:
        if not command.strip():
            raise ValueError("must not be blank")
        return command

    @field_validator("mode")
    @classmethod
    def known(cls, mode: str) -> str:
        if mode.lower() not in MODES:
            raise ValueError(f"must be one of {', '.join(MODES)}")
        return mode

    @property
    def chaos_level(self) -> int | None:
        level = self.metadata.get("chaos_level")
        if self.mode.lower() != "chaos" or level is None:
            return None
        if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= MAX_CHAOS_LEVEL:
            refuse(f"metadata.chaos_level: must be a whole number from 1 to {MAX_CHAOS_LEVEL}")
        return level


class UploadRequest(Body):
    """The body of ``POST /files/alt/upload``."""

    content: str
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class _AltDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc] # chosen at run time
    """Writes every value out: readers of ``.alt`` files refuse aliases."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def build_alt(wanted: SegmentRequest, *, cycle: bool = False) -> dict[str, Any]:
    """Turn the command into an ``.alt`` document in the *segments* dialect."""
    segments: list[dict[str, Any]] = []
    for piece in split(wanted.command):
        segments.append(_segment(piece.content, [segments[-1]["id"]] if piece.follows else []))
        if len(segments) > MAX_TASKS:
            refuse(f"command: asks for more than {MAX_TASKS} tasks")
    if cycle:
        segments[0]["dependencies"] = [segments[-1]["id"]]
        if len(segments) > 1:
            segments[-1]["dependencies"] = [segments[0]["id"]]
    return {
        "id": new_id(),
        "version": "1.0",
        "timestamp": utc_now(),
        "command": wanted.command,
        "language": detect_language(wanted.command),
        "mode": wanted.mode,
        "persona": wanted.persona,
        "chaos_level": wanted.chaos_level,
        "segments": segments,
        "metadata": wanted.metadata,
    }


def alt_text(alt: dict[str, Any]) -> str:
    """Write an ``.alt`` document as YAML."""
    text: str = yaml.dump(alt, Dumper=_AltDumper, allow_unicode=True, sort_keys=False)
    return text


def _segment(content: str, dependencies: list[str]) -> dict[str, Any]:
    task_type, confidence = classify(content)
    return {
        "id": new_id(),
        "task_type": task_type,
        "content": content,
        "parameters": [
            {"name": "content", "value": content, "type": "string", "required": True, "description": "Task content"}
        ],
        "dependencies": dependencies,
        "metadata": {"confidence": confidence},
    }


class SegmentationViews:
    """The endpoints of the contract."""

    def __init__(self, sandbox: common.Sandbox) -> None:
        self._sandbox = sandbox

    async def segment(self, request: Request) -> Response:
        wanted = await read(request, SegmentRequest)
        response, _ = self._sandbox.once(request, lambda: self._segment(wanted), 200)
        return response

    def _segment(self, wanted: SegmentRequest) -> dict[str, Any]:
        alt = build_alt(wanted, cycle=self._sandbox.faults.take("cycle", "POST", "/segment"))
        name = f"task_{alt['id']}.alt"
        answer = {
            "id": alt["id"],
            "status": "completed",
            "alt_file": name,
            "metadata": {
                "timestamp": alt["timestamp"],
                "language": alt["language"],
                "mode": wanted.mode,
                "persona": wanted.persona,
                "task_count": len(alt["segments"]),
            },
        }
        self._sandbox.save_file("alt file", name, alt_text(alt), {"language": alt["language"]})
        self._sandbox.save("segmentation", alt["id"], answer)
        return answer

    async def get_segmentation(self, request: Request) -> Response:
        return JSONResponse(self._sandbox.load("segmentation", request.path_params["id"]))

    async def get_file(self, request: Request) -> Response:
        return JSONResponse(self._sandbox.load("alt file", request.path_params["alt_file"]))

    async def upload(self, request: Request) -> Response:
        uploaded = await read(request, UploadRequest)

        def keep() -> dict[str, Any]:
            name = f"upload_{new_id()}.alt"
            self._sandbox.save_file("alt file", name, uploaded.content, uploaded.metadata)
            return {"altFileId": name}

        response, _ = self._sandbox.once(request, keep, 201)
        return response


def create_app(store: Store) -> Starlette:
    sandbox = common.Sandbox.create("segmentation", store, "cycle")
    views = SegmentationViews(sandbox)
    return common.create_app(
        sandbox,
        [
            Route("/segment", views.segment, methods=["POST"]),
            Route("/segment/{id}", views.get_segmentation),
            Route("/files/alt/upload", views.upload, methods=["POST"]),
            Route("/files/alt/{alt_file}", views.get_file),
        ],
    )
