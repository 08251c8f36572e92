from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404

from accounts.models import User
from commands.models import Command, CommandEvent, CommandResult, StageRun
from commands.states import Stage
from gateway.api.errors import ApiError, ErrorCode
from gateway.rows import select

BROADCAST_GRACE = timedelta(seconds=5)
BROADCAST_LIMIT = 1000
EVENTS_LIMIT = 1000
_FILES = ("alt_file", "last_file", "atlas_file")


def own_commands(user: User) -> QuerySet[Command]:
    """Return the user's own commands and steps by themselves, with their files."""
    return Command.objects.filter(user=user).select_related(*_FILES)


def command_get(*, user: User, command_id: UUID) -> Command:
    """Return the user's own command, or step by itself. Raises Http404 for any other."""
    found = select(Command, {"id": command_id, "user": user}, related=_FILES)
    if not found:
        raise Http404
    return found[0]


def step_get(*, user: User, kind: Stage, step_id: UUID) -> Command:
    """Return the user's own step of that kind, with the `instance` that has it or had it last. Raises Http404."""
    latest = StageRun.objects.filter(command=OuterRef("pk")).order_by("-attempt")
    steps = own_commands(user).annotate(instance=Subquery(latest.values("instance")[:1]))
    step = steps.filter(id=step_id, only_stage=kind).first()
    if step is None:
        raise Http404
    return step


def command_events(*, command_id: UUID, after: int = 0, limit: int = EVENTS_LIMIT) -> list[CommandEvent]:
    """Return the events with a `seq` above `after`, in order."""
    return list(CommandEvent.objects.filter(command_id=command_id, seq__gt=after).order_by("seq")[:limit])


def command_result(*, command: Command) -> CommandResult | None:
    """Return what came out, None if it ended before there was anything. Raises ApiError (command_not_finished)."""
    if not command.has_ended:
        raise ApiError(ErrorCode.COMMAND_NOT_FINISHED)
    return CommandResult.objects.filter(command=command).first()


def visible_last_seqs(*, user: User, command_ids: Iterable[UUID]) -> dict[UUID, tuple[int, bool]]:
    """Return, for those commands that are the user's own, the newest `seq` and whether the command has ended."""
    rows: QuerySet[Command, Any] = Command.objects.filter(user=user, id__in=list(command_ids)).values_list(
        "id", "last_seq", "finished_at"
    )
    return {command_id: (last_seq, finished_at is not None) for command_id, last_seq, finished_at in rows}


def events_not_broadcast(*, now: datetime) -> list[CommandEvent]:
    """Return events whose process died, or could not reach the listeners, right after the commit."""
    waiting = CommandEvent.objects.filter(broadcast_at=None, at__lt=now - BROADCAST_GRACE)
    return list(waiting.order_by("at", "command_id", "seq")[:BROADCAST_LIMIT])
