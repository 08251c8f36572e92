"""Who works on a command, and when it is looked at again.

The database is the truth; a message only wakes a worker up, and commands.queue says what comes next. Whoever works on a
command holds its lease, and every write of the work names the holder: a worker that lost its lease can change nothing.
"""

import os
import socket
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from commands.claims import take_next, take_one
from commands.models import Command
from commands.states import TERMINAL, Stage
from gateway.ids import new_id
from gateway.rows import update

LEASE_MARGIN = timedelta(seconds=5)
# A lease this young is long enough still: a quick command writes no renewals.
FRESH = timedelta(seconds=2)
# How far apart the clocks of two machines may be: what is to be done now must be due by all of them.
CLOCK_SKEW = timedelta(seconds=0.5)
# For a step that is due sooner than this the worker wakes its stage then; for a later one the sweep does.
SEND_AHEAD = timedelta(seconds=2)
# For so long a worker tries to give a lease back, when the database went away.
GIVE_BACK_SECONDS, GIVE_BACK_EVERY = 60.0, 0.5
# When a runner says that it goes on, it is asked this soon, and no sooner however often it says so.
NEWS_INTERVAL = timedelta(seconds=1)


class LeaseLostError(Exception):
    """Another worker may be at this command by now; the caller must stop."""


def lease_length() -> timedelta:
    """Long enough for one call of a service, after which the holder renews or lets go."""
    return timedelta(seconds=settings.SERVICE_TIMEOUT) + LEASE_MARGIN


def lease_claim_next(*, stage: Stage, passed_over: Collection[str] = ()) -> tuple[Command, bool] | None:
    """Return the next command of a stage, whose lease the caller then holds, and whether there is another one to do."""
    now = timezone.now()
    return take_next(stage=stage, owner=_new_owner(), now=now, expires=now + lease_length(), passed_over=passed_over)


def lease_claim(*, command_id: UUID) -> Command | None:
    """Return this command if there is something to do and nobody is doing it; the caller then holds its lease."""
    now = timezone.now()
    return take_one(command_id=command_id, owner=_new_owner(), now=now, expires=now + lease_length())


def _new_owner() -> str:
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{new_id().hex}"


def lease_renew(command: Command) -> None:
    """Hold the lease for one more call. Raises LeaseLostError."""
    now = timezone.now()
    if command.lease_expires_at and command.lease_expires_at - now > lease_length() - FRESH:
        return
    expires = now + lease_length()
    held = Command.objects.filter(id=command.id, lease_owner=command.lease_owner)
    if not command.lease_owner or not held.update(lease_expires_at=expires):
        raise LeaseLostError
    command.lease_expires_at = expires


def lease_release(command: Command, *, due_at: datetime) -> bool:
    """Let go, and look at the command again at `due_at`; or when it is its turn, if it has one.

    Return False, and keep the lease, if somebody woke the command meanwhile (its `due_at` has changed): then there is
    more to do now. Raises LeaseLostError.
    """
    held = Command.objects.filter(id=command.id, lease_owner=command.lease_owner)
    if held.filter(due_at=command.due_at).update(
        lease_owner="", lease_expires_at=None, due_at=due_at, turn_at=command.turn_at, deaths=0
    ):
        return True
    fresh = held.first()
    if fresh is None:
        raise LeaseLostError
    command.due_at = fresh.due_at
    return False


def database_is_away(error: Exception) -> bool:
    """Return whether an error of the database says nothing about the statement: the same may succeed in a moment.

    PostgreSQL gives its reasons by class: 08 and none are a connection that broke, 40 is a deadlock, 57P a shutdown.
    """
    state = getattr(error.__cause__, "sqlstate", None)
    return isinstance(error, OperationalError | InterfaceError) and (state or "08").startswith(("08", "40", "57P"))


def lease_give_back(*, command_id: UUID, owner: str) -> None:
    """Let go of a command in the middle of a step, because the database went away: try until it is back.

    If that takes too long, the lease runs out.
    """
    until = time.monotonic() + GIVE_BACK_SECONDS
    while time.monotonic() < until:
        connection.close()
        try:
            Command.objects.filter(id=command_id, lease_owner=owner).update(lease_owner="", lease_expires_at=None)
        except (OperationalError, InterfaceError):
            time.sleep(GIVE_BACK_EVERY)
        else:
            return


def command_wake(*, command_id: UUID, stage: Stage | None = None) -> bool:
    """There is something new to do. Whoever holds the lease notices when it lets go; else a worker is to be sent.

    Return whether the command has not ended, and is at the stage, if one is given.
    """
    where = {"id": command_id, "finished_at": None} | ({"stage": stage} if stage else {})
    return bool(update(Command, where, {"due_at": timezone.now() - CLOCK_SKEW}))


def command_look_soon(*, command_id: UUID) -> None:
    """There is news, but nothing to do: look soon, if nobody is looking now and nobody would look by then."""
    soon = timezone.now() + NEWS_INTERVAL
    waiting = Command.objects.filter(id=command_id, lease_owner="", due_at__gt=soon).exclude(status__in=TERMINAL)
    if waiting.exists():  # an update of no row would take SQLite's one write lock all the same
        waiting.update(due_at=soon)
