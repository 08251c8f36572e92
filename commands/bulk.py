"""Many commands by one call: each item gets an answer of its own, and none blocks another."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from rest_framework.exceptions import APIException, ValidationError

from accounts.models import User
from commands.history import CommandFilters
from commands.models import Command
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


def cancellable_ids(*, user: User, filters: CommandFilters) -> tuple[list[UUID], bool]:
    """Return the oldest of the user's commands that can be cancelled and fit; and whether there are more."""
    # An index leads to what has not ended, which is little, whatever the history. Put into order here: for that, the
    # database might go through all that there ever was.
    commands = Command.objects.filter(user=user, only_stage=None, finished_at=None, status__in=CANCELLABLE)
    ids = sorted(filters.apply(commands).order_by().values_list("id", flat=True))
    return ids[:MAX_ITEMS], len(ids) > MAX_ITEMS
