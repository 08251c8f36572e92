"""Drives one command as far as it will go now.

1. Claim the lease; without it there is nothing to do here.
2. Take one step after another: each ends in a transition, or says when to look again.
3. Let go of the lease, unless somebody woke the command meanwhile. The next stage is for the workers of its own queue.

The process may die anywhere in this. Then the lease expires, the sweep sends another worker, and that one starts from
what was committed: the stage is tried again with the same idempotency key, or the work that a service accepted is
asked after.
"""

import logging
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from commands.deadlines import deadline_enforce
from commands.dispatch import dispatch
from commands.leases import SEND_AHEAD, LeaseLostError, lease_claim, lease_release
from commands.models import Command
from commands.pipeline.cancellation import cancel_step
from commands.pipeline.stage import stage_step
from commands.states import STATUS_OF, Stage, Status
from commands.transitions import StaleCommandError, command_transition
from gateway.request_id import request_id

logger = logging.getLogger(__name__)

BEGUN = 5  # percent


def advance(command_id: UUID, *, stage: Stage | None = None) -> None:
    """Work on the command until it ends or has to wait. Does nothing if somebody else does, or nothing is due.

    With a stage, that one alone is worked on: whoever is here for one service makes no call of another, which may hang.
    """
    command = lease_claim(command_id=command_id, stage=stage)
    if command is None:
        return
    token = request_id.set(command.request_id)
    try:
        _run(command, stage)
    except LeaseLostError:
        logger.warning("lost the lease of command %s; whoever has it goes on", command_id)
    finally:
        request_id.reset(token)


def _run(command: Command, stage: Stage | None) -> None:
    while not command.has_ended:
        try:
            look_again_at = _step(command) if stage in (None, command.work_stage) else timezone.now()
        except StaleCommandError:
            # Somebody changed it, as a cancellation does. Go on from what it is now, if it is still ours.
            command = _reload(command)
            continue
        if command.has_ended or look_again_at is None:
            continue
        if lease_release(command, due_at=look_again_at):
            delay = look_again_at - timezone.now()
            if delay < SEND_AHEAD:
                dispatch(command.id, stage=command.work_stage, delay=max(delay.total_seconds(), 0))
            return
        command = _reload(command)


def _step(command: Command) -> datetime | None:
    """Take one step. Return when to look again, or None to go on at once."""
    if command.status == Status.CANCELLING:
        return cancel_step(command)
    if deadline_enforce(command=command):  # before the sweep does: nothing is begun that should not be
        return None
    if command.status == Status.QUEUED:
        first = STATUS_OF[Stage(command.stage or Stage.SEGMENTATION)]
        command_transition(command, first, lease_owner=command.lease_owner, progress=max(command.progress, BEGUN))
        return None
    return stage_step(command, Stage(str(command.stage)))


def _reload(command: Command) -> Command:
    fresh = Command.objects.select_related("alt_file", "last_file").get(id=command.id)
    if not fresh.has_ended and fresh.lease_owner != command.lease_owner:
        raise LeaseLostError
    return fresh
