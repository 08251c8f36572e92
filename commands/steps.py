"""A step by itself: a command that one stage makes, from what a stage before would have left."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.models import User
from commands.models import MAX_PERSONA, Command
from commands.services import command_store, hash_of, stored_before
from commands.states import Stage
from files.formats import AltDocument, FormatError, LastDocument, parse_alt, parse_last
from files.models import Kind, StoredFile
from files.selectors import file_text
from files.services import file_store
from gateway.api.errors import ApiError, ErrorCode


@dataclass(frozen=True)
class _Input:
    field: str
    kind: Kind
    parse: Callable[[str], AltDocument | LastDocument]


_INPUTS = {
    Stage.RUNNER: _Input("alt_file", Kind.ALT, parse_alt),
    Stage.ARCHIVE: _Input("last_file", Kind.LAST, parse_last),
}


def step_submit(
    *,
    user: User,
    kind: Stage,
    idempotency_key: str | None = None,
    content: str | None = None,
    file: UUID | None = None,
    **values: Any,
) -> Command:
    """Store a step and send a worker to it. With a key that was used before, return the step of that time.

    All but a segmentation work on a file: on this `content`, which becomes a file of the user, or a `file` of theirs.

    Raises ApiError (idempotency_key_reused; service_unavailable, if the storage fails), ValidationError.
    """
    body_hash = hash_of({"kind": kind, "content": content, "file": file, **values}) if idempotency_key else ""
    step = Command(user=user, only_stage=kind, stage=kind, idempotency_key=idempotency_key, idempotency_hash=body_hash)
    earlier = stored_before(step)
    if earlier is not None:
        return earlier
    try:
        made = _take_input(step, _INPUTS[kind], content, file) if kind in _INPUTS else None
    except OSError as error:
        raise ApiError(ErrorCode.SERVICE_UNAVAILABLE) from error
    for name, value in values.items():
        setattr(step, name, value)
    try:
        return command_store(step, file=made)
    except IntegrityError:
        if file is not None:
            _own_file(user.id, _INPUTS[kind].kind, file)  # it was deleted meanwhile
        raise


def _take_input(step: Command, wanted: _Input, content: str | None, file_id: UUID | None) -> StoredFile | None:
    """Give the step what it works on. Return the file, not yet saved, if it is a new one. Raises OSError."""
    file = None if file_id is None else _own_file(step.user_id, wanted.kind, file_id)
    text = str(content) if file is None else file_text(file)
    try:
        document = wanted.parse(text)
    except FormatError as error:
        field = "content" if file is None else "file"
        raise ValidationError({field: [ErrorDetail(str(error), code=error.code)]}) from error
    if isinstance(document, AltDocument):
        step.mode = document.mode
        if len(document.persona) <= MAX_PERSONA:  # what no persona is called is left to the file
            step.persona = document.persona
    made = None
    if file is None:
        name, folder = document.id, str(step.id)
        made = file = file_store(owner_id=step.user_id, kind=wanted.kind, name=name, text=text, folder=folder)
    setattr(step, wanted.field, file)
    return made


def _own_file(user_id: UUID, kind: Kind, file_id: UUID) -> StoredFile:
    file = StoredFile.objects.filter(owner=user_id, kind=kind, id=file_id).first()
    if file is None:
        message = _("You have no such file of kind %(kind)s.") % {"kind": kind}
        raise ValidationError({"file": [ErrorDetail(message, code="does_not_exist")]})
    return file
