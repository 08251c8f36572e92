"""Works on what is due at a stage, one command after another: each as far as it will go now.

1. Claim the lease of the next one (commands.queue says which); without it there is nothing to do here.
2. Take one step after another: each ends in a transition, or says when to look again.
3. Let go of the lease, unless somebody woke the command meanwhile. The next stage is for the workers of its own queue.

The process may die anywhere in this. Then the lease expires, another worker claims the command, and starts from what
was committed: the stage is tried again with the same idempotency key, or the work that a service accepted is asked
after. A command that lets one worker after another die fails as poisoned.
"""

import logging
import time
from datetime import datetime
from uuid import UUID

from celery.exceptions import SoftTimeLimitExceeded
from django.db import Error, transaction
from django.utils import timezone

from commands.deadlines import deadline_enforce
from commands.dispatch import EXPIRES, wake
from commands.leases import (
    SEND_AHEAD,
    LeaseLostError,
    database_is_away,
    lease_claim,
    lease_claim_next,
    lease_give_back,
    lease_release,
)
from commands.models import Command, Outcome
from commands.pipeline.attempts import command_fail, finish_run, runs_of, unfinished
from commands.pipeline.cancellation import cancel_step
from commands.pipeline.remote import client_of
from commands.pipeline.stage import stage_step
from commands.states import Stage, Status
from commands.transitions import StaleCommandError
from gateway.request_id import request_id
from integrations.clients.errors import ServiceError

logger = logging.getLogger(__name__)

# How long one message keeps a worker at work, so that other tasks get their turn too.
BUDGET_SECONDS = 3.0
MAX_DEATHS = 3
# After a service was found busy, for so long this process hands nothing over that waits for the same.
BUSY_SECONDS = 0.2

_busy_until: dict[tuple[Stage, str], float] = {}  # by target; "" is any service of the stage


def work(stage: Stage) -> None:
    """Work on what is due at a stage, the next first, until there is nothing or the time is over.

    No other stage is worked on: whoever is here for one service makes no call of another, which may hang.
    """
    over_at = time.monotonic() + BUDGET_SECONDS
    has_called = False
    while claimed := lease_claim_next(stage=stage, passed_over=_busy_targets(stage)):
        (command, there_is_more), began_at = claimed, time.monotonic()
        if there_is_more and not has_called:  # whoever is idle may help
            wake(stage)
            has_called = True
        is_done = False
        try:
            is_done = _work_on(command)
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # its lease runs out, which counts as a death; the others go on
            logger.exception("could not go on with command %s", command.id)
        if time.monotonic() > over_at:
            wake(stage)
            return
        if is_done and not there_is_more and time.monotonic() < began_at + EXPIRES / 2:
            return  # what has become due since then has sent a message of its own, which is not too old yet


def advance(command_id: UUID) -> None:
    """Work on this command, through all stages, until it ends or has to wait. Does nothing if nothing is due."""
    while (command := lease_claim(command_id=command_id)) is not None:
        if not _work_on(command):
            return


def forget_busy() -> None:
    """Find out again who is busy. For tests: as if the process had just begun."""
    _busy_until.clear()


def _busy_targets(stage: Stage) -> list[str]:
    now = time.monotonic()
    return [target for (of_stage, target), until in _busy_until.items() if of_stage == stage and until > now]


def _work_on(command: Command) -> bool:
    """Work on a command whose lease this worker has. Return whether it has ended or moved on to another stage."""
    token, owner = request_id.set(command.request_id), command.lease_owner
    try:
        return _run(command)
    except LeaseLostError:
        logger.warning("lost the lease of command %s; whoever has it goes on", command.id)
    except Error as error:
        if not database_is_away(error):
            raise
        logger.warning("the database went away while command %s was worked on: %r", command.id, error)
        lease_give_back(command_id=command.id, owner=owner)
    finally:
        request_id.reset(token)
    return False


def _run(command: Command) -> bool:
    owner = command.lease_owner  # later it may say what a transition that was rolled back made of it
    while not command.has_ended:
        try:
            look_again_at = _step(command)
        except StaleCommandError:
            # Somebody changed it, as a cancellation does. Go on from what it is now, if it is still ours.
            command = _reload(command, owner)
            continue
        if command.has_ended:
            break
        if not command.lease_owner:  # it has moved on to the next stage, and the lease was let go with that
            wake(command.work_stage)
            return True
        if look_again_at is None:
            continue
        if lease_release(command, due_at=look_again_at):
            _look_again(command, look_again_at)
            return False
        command = _reload(command, owner)
    return True


def _look_again(command: Command, at: datetime) -> None:
    """Let a worker look at a command at that time; or, if it waits for its turn, when its service may be less busy."""
    delay = (at - timezone.now()).total_seconds()
    if command.turn_at is not None:
        delay = BUSY_SECONDS
        _busy_until[command.work_stage, command.target] = time.monotonic() + delay
    if delay < SEND_AHEAD.total_seconds():
        wake(command.work_stage, delay=max(delay, 0))


def _step(command: Command) -> datetime | None:
    """Take one step. Return when to look again, or None to go on at once."""
    if command.deaths >= MAX_DEATHS:
        _poisoned(command)
        return None
    if command.status == Status.CANCELLING:
        return cancel_step(command)
    if deadline_enforce(command=command):  # before the sweep does: nothing is begun that should not be
        return None
    return stage_step(command, command.work_stage)


def _poisoned(command: Command) -> None:
    """It has let one worker after another die: no call is made for it any more, but to stop what a service has.

    That one comes last: if this worker dies of it too, the command has failed all the same.
    """
    run = unfinished(runs_of(command, command.work_stage))
    with transaction.atomic():
        command_fail(command, "poisoned")
        if run is not None:
            finish_run(run, Outcome.ABANDONED, code="worker_lost")
    if run is not None and run.remote_id:
        try:
            client_of(run).cancel(run.remote_id)
        except ServiceError as error:
            logger.warning("could not stop the %s of command %s: %r", run.stage, command.id, error)


def _reload(command: Command, owner: str) -> Command:
    fresh = Command.objects.get(id=command.id)
    if not fresh.has_ended and fresh.lease_owner != owner:
        raise LeaseLostError
    return fresh
