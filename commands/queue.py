"""The order of work: which command comes next at a stage.

What a service has at work comes first (polls, callbacks, retries, cancellations), by `due_at`, as it makes room. Then
comes what waits to be handed to a service, by `turn_at`: when it was sent, a fixed time earlier or later by priority.
So a command of high priority overtakes those that were sent up to HEAD_START before it, and one of low priority waits
that much longer than others, but never for ever. The turn stays the same over all stages. commands.claims takes the
next one.
"""

from datetime import datetime, timedelta

from django.db.models import Q, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from commands import limits
from commands.models import Command, Priority
from commands.states import Stage

HEAD_START = timedelta(minutes=5)
MOST_COUNTED = 1000

_SHIFTS = {Priority.HIGH.value: -HEAD_START, Priority.LOW.value: HEAD_START}


def turn_of(command: Command) -> datetime:
    """Return the place of a command among those that wait to be handed to a service."""
    sent_at: datetime | None = command.created_at  # of a new one it comes when it is saved
    return (sent_at or timezone.now()) + _SHIFTS.get(command.priority, timedelta(0))


def queue_place(command: Command) -> int | None:
    """Return how soon it is a command's turn: 1 is the next. None if it does not wait for that.

    Of a command that is held, those of its user that are held before it count too. Counts to MOST_COUNTED at most.
    """
    now = timezone.now()
    is_taken = command.lease_expires_at is not None and command.lease_expires_at > now
    if command.turn_at is None or is_taken:
        return None
    free = Q(lease_expires_at=None) | Q(lease_expires_at__lte=now)
    before = Command.objects.filter(turn_at__lt=command.turn_at).order_by()
    of_stage = before.alias(at=Coalesce("stage", Value(Stage.SEGMENTATION.value))).filter(at=command.work_stage)
    ahead = of_stage.filter(free, finished_at=None, held=False)[:MOST_COUNTED].count()
    if command.held:
        ahead += before.filter(user=command.user_id, held=True)[:MOST_COUNTED].count()
    return min(ahead + 1, MOST_COUNTED)


def held_behind(command: Command) -> tuple[int, int, int] | None:
    """Return its user's commands in flight, their limit, and those held before it; None if it is not held."""
    if not command.held:
        return None
    before = Command.objects.filter(user=command.user_id, held=True, turn_at__lt=command.turn_at).order_by()
    limit = limits.limit_of(command.user_id)
    return limits.in_flight(command.user_id), limit, before[:MOST_COUNTED].count()
