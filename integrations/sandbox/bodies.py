"""Reading what comes in: bounded, and refused with a sentence that names what is wrong."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Never, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 200_000
MAX_KEY_LENGTH = 255
MAX_PROBLEMS = 10


class Body(BaseModel):
    """A request body: types are taken at their word, fields nobody knows are let pass."""

    model_config = ConfigDict(strict=True, extra="ignore")


BodyT = TypeVar("BodyT", bound=Body)


def refuse(detail: str, status: int = 422) -> Never:
    raise HTTPException(status, detail)


async def read_body(request: Request) -> bytes:
    """Read the whole body, giving up with 413 as soon as it is too large."""
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                refuse(f"The body is larger than {MAX_BODY_BYTES} bytes.", 413)
            chunks.append(chunk)
    except ClientDisconnect:
        refuse("The client left before its body was complete.", 400)
    return b"".join(chunks)


async def read(request: Request, model: type[BodyT]) -> BodyT:
    """Read the request's JSON body as this model: 400 if it is no JSON, 422 if it is not of the shape."""
    raw = await read_body(request)
    try:
        value = json.loads(raw)
    except RecursionError:
        refuse(f"The body is nested deeper than {MAX_DEPTH} levels.")
    except ValueError:  # JSONDecodeError, UnicodeDecodeError, or a number of too many digits
        refuse("The body is not valid JSON.", 400)
    check_tree(value)
    return validate(model, value)


def validate(model: type[BodyT], value: object, where: str = "") -> BodyT:
    """Take the value as this model, or answer 422 naming each wrong field: ``faults.0.kind: ...``."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    prefix = [where] if where else []
    refuse(
        "; ".join(
            f"{'.'.join([*prefix, *map(str, problem['loc'])]) or 'body'}: {problem['msg']}"
            for problem in problems[:MAX_PROBLEMS]
        )
    )


def check_tree(root: object) -> None:
    """Refuse a parsed document that is too deep, too large, or not storable as JSON again."""
    nodes, level = 0, [root]
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            refuse(f"The document has more than {MAX_NODES} values.")
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    refuse(f"The document is nested deeper than {MAX_DEPTH} levels.")


def _children(value: object) -> list[object]:
    if isinstance(value, str):
        _check_text(value)
        return []
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                refuse(f"The key {key!r} is not text.")
            _check_text(key)
        return list(value.values())
    if isinstance(value, list):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        refuse("A number is not finite.")
    if value is None or isinstance(value, bool | int | float):
        return []
    refuse(f"A value of type {type(value).__name__} has no place in JSON.")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse("A text has half of a surrogate pair.")


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key", "").strip()
    if len(key) > MAX_KEY_LENGTH:
        refuse(f"Idempotency-Key: longer than {MAX_KEY_LENGTH} characters.")
    return key or None
