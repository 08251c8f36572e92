"""Many commands by one call: each item gets an answer of its own, and none blocks another."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from rest_framework.exceptions import APIException, ValidationError

from accounts.models import User
from commands.models import Command, Mode
from commands.selectors import own_commands
from commands.services import check_now, command_cancel, commands_store
from commands.states import TERMINAL, Status
from gateway.api.errors import ApiError, ErrorCode

MAX_ITEMS = 100
CANCELLABLE = tuple(status for status in Status if status not in TERMINAL | {Status.CANCELLING})


def commands_submit(*, user: User, items: Iterable[dict[str, Any] | APIException]) -> list[Command | APIException]:
    """Store a command for each item, and return it or why it was refused. What is refused already stays so.

    All in one transaction: whoever dies in the midst of it has stored nothing.
    """
    outcomes = [item if isinstance(item, APIException) else _checked(Command(user=user, **item)) for item in items]
    commands = [each for each in outcomes if isinstance(each, Command)]
    if commands:
        commands_store(commands)
    return outcomes


def _checked(command: Command) -> Command | APIException:
    try:
        check_now(command)
    except ValidationError as error:
        return error
    return command


def commands_cancel(*, user: User, ids: Sequence[UUID]) -> list[Command | APIException]:
    """Ask for the end of each of these commands of the user, and return it or why it cannot be cancelled."""
    own = own_commands(user).in_bulk(list(ids))
    return [_cancelled(own[each]) if each in own else ApiError(ErrorCode.NOT_FOUND) for each in ids]


def _cancelled(command: Command) -> Command | APIException:
    try:
        return command_cancel(command=command)
    except ApiError as error:
        return error


def cancellable_ids(
    *,
    user: User,
    status: Iterable[str] = CANCELLABLE,
    mode: Iterable[str] = Mode,
    persona: str | None = None,
    tag: Sequence[str] = (),
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    q: str | None = None,
) -> tuple[list[UUID], bool]:
    """Return the oldest of the user's commands that can be cancelled and fit all of this; and whether there are more.

    An index leads to what has not ended, which is little, whatever the history.
    """
    commands = Command.objects.filter(user=user, only_stage=None, status__in=list(status), mode__in=list(mode))
    if persona is not None:
        commands = commands.filter(persona=persona)
    if created_after is not None:
        commands = commands.filter(created_at__gte=created_after)
    if created_before is not None:
        commands = commands.filter(created_at__lt=created_before)
    if q is not None:
        commands = commands.filter(text__icontains=q)
    ids = _with_tags(commands.order_by("id"), tag)
    return ids[:MAX_ITEMS], len(ids) > MAX_ITEMS


def _with_tags(commands: QuerySet[Command], wanted: Sequence[str]) -> list[UUID]:
    """Return the ids of those that have all these tags: one more than are taken, to tell whether there are more."""
    if wanted and not connection.features.supports_json_field_contains:  # as SQLite
        return [each for each, tags in commands.values_list("id", "tags") if set(wanted) <= set(tags)]
    if wanted:
        commands = commands.filter(tags__contains=list(wanted))
    return list(commands.values_list("id", flat=True)[: MAX_ITEMS + 1])
