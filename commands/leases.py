"""Who works on a command, and when it is looked at again.

The database is the truth; a message only wakes a worker up. Whoever works on a command holds its lease, and every write
of the work names the holder: a worker that lost its lease can change nothing. `due_at` is when there is something
to do. The sweep sends a message for what is past `dispatch_at`: a step that has come due, a message that was lost,
a lease whose holder died.
"""

import os
import socket
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from commands.models import Command
from commands.states import TERMINAL, Stage
from gateway.ids import new_id

LEASE_MARGIN = timedelta(seconds=5)
# A lease this young is long enough still: a quick command writes no renewals.
FRESH = timedelta(seconds=2)
# How far apart the clocks of two machines may be: what one says is due now, the other need not wait for.
CLOCK_SKEW = timedelta(seconds=0.5)
# A message that was sent but not taken up by then is sent again.
REDISPATCH_AFTER = timedelta(seconds=15)
# A step that is due sooner than this gets its message now, with a delay; a later one gets it from the sweep.
SEND_AHEAD = timedelta(seconds=2)
# When a runner says that it goes on, it is asked this soon, and no sooner however often it says so.
NEWS_INTERVAL = timedelta(seconds=1)


class LeaseLostError(Exception):
    """Another worker may be at this command by now; the caller must stop."""


def lease_length() -> timedelta:
    """Long enough for one call of a service, after which the holder renews or lets go."""
    return timedelta(seconds=settings.SERVICE_TIMEOUT) + LEASE_MARGIN


def lease_claim(*, command_id: UUID, stage: Stage | None = None) -> Command | None:
    """Return the command if there is something to do and nobody is doing it; the caller then holds its lease.

    With a stage, only if that is the one to work on.
    """
    now = timezone.now()
    due = Command.objects.filter(
        Q(lease_expires_at=None) | Q(lease_expires_at__lte=now), id=command_id, due_at__lte=now + CLOCK_SKEW
    )
    if stage is not None:
        due = due.filter(Q(stage=stage) | Q(stage=None) if stage is Stage.SEGMENTATION else Q(stage=stage))
    owner = f"{socket.gethostname()[:40]}:{os.getpid()}:{new_id().hex}"
    expires = now + lease_length()
    claimed = due.exclude(status__in=TERMINAL).update(lease_owner=owner, lease_expires_at=expires, dispatch_at=expires)
    if not claimed:
        return None
    command = Command.objects.select_related("alt_file", "last_file").get(id=command_id)
    return command if command.lease_owner == owner else None


def lease_renew(command: Command) -> None:
    """Hold the lease for one more call. Raises LeaseLostError."""
    now = timezone.now()
    if command.lease_expires_at and command.lease_expires_at - now > lease_length() - FRESH:
        return
    expires = now + lease_length()
    held = Command.objects.filter(id=command.id, lease_owner=command.lease_owner)
    if not command.lease_owner or not held.update(lease_expires_at=expires, dispatch_at=expires):
        raise LeaseLostError
    command.lease_expires_at = expires


def lease_release(command: Command, *, due_at: datetime) -> bool:
    """Let go, and look at the command again at `due_at`.

    Return False, and keep the lease, if somebody woke the command meanwhile (its `due_at` has changed): then there is
    more to do now. Raises LeaseLostError.
    """
    with transaction.atomic():
        soon = due_at - timezone.now() < SEND_AHEAD
        held = Command.objects.filter(id=command.id, lease_owner=command.lease_owner)
        if held.filter(due_at=command.due_at).update(
            lease_owner="",
            lease_expires_at=None,
            due_at=due_at,
            dispatch_at=due_at + REDISPATCH_AFTER if soon else due_at,
        ):
            return True
        fresh = held.first()
        if fresh is None:
            raise LeaseLostError
        command.due_at = fresh.due_at
        return False


def command_wake(*, command_id: UUID) -> None:
    """There is something new to do. Whoever holds the lease notices when it lets go; else a worker is to be sent."""
    now = timezone.now()
    Command.objects.filter(id=command_id).exclude(status__in=TERMINAL).update(due_at=now, dispatch_at=now)


def command_look_soon(*, command_id: UUID) -> None:
    """There is news, but nothing to do: look soon, if nobody is looking now and nobody would look by then."""
    soon = timezone.now() + NEWS_INTERVAL
    waiting = Command.objects.filter(id=command_id, lease_owner="", due_at__gt=soon).exclude(status__in=TERMINAL)
    if waiting.exists():  # an update of no row would take SQLite's one write lock all the same
        waiting.update(due_at=soon, dispatch_at=soon)


def take_due_for_dispatch(*, limit: int) -> list[Command]:
    """Return commands (of which only id and stage are read) to send a message for now, and put them down as sent."""
    now = timezone.now()
    with transaction.atomic():
        commands = list(
            Command.objects.select_for_update(skip_locked=True)
            .filter(dispatch_at__lte=now)
            .order_by("dispatch_at")
            .only("id", "stage")[:limit]
        )
        ids = [command.id for command in commands]
        Command.objects.filter(id__in=ids, dispatch_at__lte=now).update(dispatch_at=now + REDISPATCH_AFTER)
    return commands
