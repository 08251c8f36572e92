from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404
from django.utils.translation import gettext as _

from accounts.models import User
from commands.models import Command, CommandEvent, CommandResult, StageRun
from commands.states import Stage, Status
from gateway.api.errors import ApiError, ErrorCode

BROADCAST_GRACE = timedelta(seconds=5)
BROADCAST_LIMIT = 1000
EVENTS_LIMIT = 1000


def command_list(*, user: User, status: Iterable[str] = ()) -> QuerySet[Command]:
    """Return the user's own commands, with their files; without the steps by themselves."""
    commands = own_commands(user).filter(only_stage=None)
    return commands.filter(status__in=list(status)) if status else commands


def own_commands(user: User) -> QuerySet[Command]:
    """Return the user's own commands and steps by themselves, with their files."""
    return Command.objects.filter(user=user).select_related("alt_file", "last_file", "atlas_file")


def command_get(*, user: User, command_id: UUID) -> Command:
    """Return the user's own command, or step by itself. Raises Http404 for any other."""
    command = own_commands(user).filter(id=command_id).first()
    if command is None:
        raise Http404
    return command


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


def command_timeline(*, command: Command) -> list[StageRun]:
    return list(command.stage_runs.order_by("id"))


def visible_last_seqs(*, user: User, command_ids: Iterable[UUID]) -> dict[UUID, tuple[int, bool]]:
    """Return, for those commands that are the user's own, the newest `seq` and whether the command has ended."""
    rows: QuerySet[Command, Any] = Command.objects.filter(user=user, id__in=list(command_ids)).values_list(
        "id", "last_seq", "finished_at"
    )
    return {command_id: (last_seq, finished_at is not None) for command_id, last_seq, finished_at in rows}


def events_not_broadcast(*, now: datetime) -> list[CommandEvent]:
    """Return events whose process died, or could not reach the listeners, right after the commit."""
    waiting = CommandEvent.objects.filter(broadcast_at=None, at__lt=now - BROADCAST_GRACE)
    return list(waiting.order_by("at", "id")[:BROADCAST_LIMIT])


def waiting_for(command: Command, runs: list[StageRun]) -> str | None:
    """Return, in words and in the current language, what a command waits for; None when it has ended."""
    if command.has_ended:
        return None
    if command.status == Status.QUEUED or command.stage is None:
        return _("A worker is to take it up.")
    service = {"service": Stage(command.stage).label}
    if command.status == Status.CANCELLING:
        return _("The %(service)s service is to confirm that it stopped.") % service
    latest = next((run for run in reversed(runs) if run.stage == command.stage), None)
    return _of_latest_run(latest) % service


def _of_latest_run(run: StageRun | None) -> str:
    if run is not None and run.found_service_busy:
        return _("The %(service)s service has as many calls as it may have at once; the command waits for it.")
    if run is not None and run.finished_at is not None:
        return _("The %(service)s service failed; it will be tried again.")
    if run is not None and run.unanswered_since is not None:
        return _("The %(service)s service has the work but does not answer; it is asked again.")
    return _("The %(service)s service is to finish its work.")
