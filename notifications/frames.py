"""Reads the frames of a client: untrusted text in, checked values or FrameError out. And writes those of the server."""

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

MAX_FRAME_CHARACTERS = 64 * 1024
MAX_NAME_CHARACTERS = 100
MAX_ROOMS_PER_FRAME = 100
MAX_SEQ = 2**31 - 1


@dataclass(frozen=True)
class Frame:
    type: str
    id: str | int | None
    payload: dict[str, Any]


class FrameError(Exception):
    """A frame that cannot be acted on. The client is told, and the socket stays open."""

    def __init__(self, code: str, detail: str, frame_id: str | int | None = None) -> None:
        self.code, self.detail, self.frame_id = code, detail, frame_id
        super().__init__(detail)


def frame_text(kind: str, payload: dict[str, Any] | None = None, frame_id: str | int | None = None) -> str:
    frame = {"type": kind, "id": frame_id, "payload": payload}
    # ASCII, because a client may have named half a surrogate pair, which is JSON but cannot be sent as UTF-8.
    return json.dumps({name: value for name, value in frame.items() if value is not None})


def error_text(error: FrameError) -> str:
    return frame_text("error", {"code": error.code, "detail": error.detail}, error.frame_id)


def read_frame(text: str | None) -> Frame:
    if text is None:
        raise FrameError("malformed_frame", "Frames are JSON text, not binary.")
    if len(text) > MAX_FRAME_CHARACTERS:
        raise FrameError("frame_too_large", f"A frame has at most {MAX_FRAME_CHARACTERS} characters.")
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise FrameError("malformed_frame", "The frame is not valid JSON.") from None
    if not isinstance(frame, dict):
        raise FrameError("malformed_frame", "A frame is a JSON object.")
    frame_id = frame.get("id")
    if not _is_id(frame_id):
        raise FrameError(
            "invalid_frame", f"id: must be an integer, or text of at most {MAX_NAME_CHARACTERS} characters."
        )
    kind, payload = frame.get("type"), frame.get("payload")
    if not _is_name(kind):
        raise FrameError("invalid_frame", f"type: must be text of at most {MAX_NAME_CHARACTERS} characters.", frame_id)
    if payload is not None and not isinstance(payload, dict):
        raise FrameError("invalid_frame", "payload: must be an object.", frame_id)
    return Frame(kind, frame_id, payload or {})


def read_token(frame: Frame) -> str:
    token = frame.payload.get("token")
    if not isinstance(token, str) or not token:
        raise FrameError("invalid_frame", "payload.token: must be text.", frame.id)
    return token


def read_rooms(frame: Frame) -> list[str]:
    """Return the rooms, each once."""
    rooms = frame.payload.get("rooms")
    if not isinstance(rooms, list) or not all(_is_name(room) for room in rooms):
        detail = f"payload.rooms: must be a list of names of at most {MAX_NAME_CHARACTERS} characters."
        raise FrameError("invalid_frame", detail, frame.id)
    if len(rooms) > MAX_ROOMS_PER_FRAME:
        raise FrameError("invalid_frame", f"payload.rooms: at most {MAX_ROOMS_PER_FRAME} in one frame.", frame.id)
    return list(dict.fromkeys(rooms))


def read_after(frame: Frame) -> dict[str, int]:
    """Return the number that each room is to go on after, for those that say one. Other rooms do no harm."""
    after = frame.payload.get("after")
    if after is None:
        return {}
    if not isinstance(after, dict) or not all(_is_seq(seq) for seq in after.values()):
        raise FrameError("invalid_frame", "payload.after: must map rooms to numbers from 0.", frame.id)
    return after


def _is_id(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool)) or _is_name(value)


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= MAX_NAME_CHARACTERS


def _is_seq(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQ
