"""Why a command is slow or stuck: its tries, what it waits for, and how its cancellation went."""

from dataclasses import dataclass
from datetime import datetime

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from commands.models import Command, CommandEvent, StageRun
from commands.states import Status
from commands.waiting import Situation, waiting_for
from integrations.models import ServiceInstance
from integrations.selectors import instances_named

LAST_EVENTS = 10  # among which a cancellation is: little happens after it


class CancellationState(models.TextChoices):
    """Stable names: clients may branch on them."""

    PENDING = "pending", _("it is being stopped")
    NOT_BEGUN = "not_begun", _("nothing had begun")
    STOPPED = "stopped", _("it was stopped")
    UNCONFIRMED = "unconfirmed", _("the runner did not confirm that it stopped")
    TOO_LATE = "too_late", _("it ended otherwise before it could be stopped")


@dataclass(frozen=True)
class Cancellation:
    requested_at: datetime
    state: CancellationState
    reason: str = ""


@dataclass(frozen=True)
class Timeline:
    """`next_try_at` is when the present stage is tried again, after a try that failed."""

    runs: list[StageRun]
    services: list[ServiceInstance]
    waiting_for: str | None
    next_try_at: datetime | None
    cancellation: Cancellation | None

    def service_of(self, run: StageRun) -> ServiceInstance | None:
        """Return the instance that a try was given to, None if it is not known any more."""
        return next((row for row in self.services if (row.kind, row.base_url) == (run.stage, run.instance)), None)


def command_timeline(*, command: Command) -> Timeline:
    """Return everything at once: a constant number of queries, whatever has happened."""
    runs = list(command.stage_runs.order_by("id"))
    kinds = {run.stage for run in runs} | {str(command.work_stage)}
    services = instances_named(kinds, (run.instance for run in runs), also_others=not command.has_ended)
    cancellation = _cancellation(command)
    situation = Situation(command, runs, services, cancellation.requested_at if cancellation else None, timezone.now())
    latest = situation.latest
    is_retried = latest is not None and latest.finished_at is not None and command.status != Status.CANCELLING
    return Timeline(
        runs=runs,
        services=services,
        waiting_for=waiting_for(situation),
        next_try_at=command.due_at if is_retried else None,
        cancellation=cancellation,
    )


def _cancellation(command: Command) -> Cancellation | None:
    if not command.has_ended and command.status != Status.CANCELLING:
        return None
    events = list(command.events.filter(seq__gt=command.last_seq - LAST_EVENTS).order_by("seq"))
    asked = next((event for event in events if event.event in (Status.CANCELLING, Status.CANCELLED)), None)
    if asked is None:
        return None
    return Cancellation(asked.at, _cancellation_state(command, asked), str(asked.data.get("reason", "")))


def _cancellation_state(command: Command, asked: CommandEvent) -> CancellationState:
    if asked.event == Status.CANCELLED:
        return CancellationState.NOT_BEGUN
    if command.status == Status.CANCELLING:
        return CancellationState.PENDING
    if command.error_code == "cancel_unconfirmed":
        return CancellationState.UNCONFIRMED
    return CancellationState.STOPPED if command.status == Status.CANCELLED else CancellationState.TOO_LATE
