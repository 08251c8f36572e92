from uuid import UUID

from celery import shared_task
from django.utils import timezone

from commands.deadlines import deadlines_enforce
from commands.dispatch import dispatch
from commands.events import events_broadcast
from commands.leases import take_due_for_dispatch
from commands.pipeline import engine
from commands.selectors import events_not_broadcast
from commands.states import Stage
from commands.steps import old_steps_delete
from gateway.health import worker_works

SWEEP_LIMIT = 500


@shared_task
def advance(command_id: str, stage: str) -> None:
    """Do what there is to do on one command, in that stage."""
    engine.advance(UUID(command_id), stage=Stage(stage))
    worker_works(stage)


@shared_task
def sweep() -> None:
    """Hold the deadlines, and send a message for every command that is due: the net under messages that were lost."""
    deadlines_enforce()
    for command in take_due_for_dispatch(limit=SWEEP_LIMIT):
        dispatch(command.id, stage=command.work_stage)


@shared_task
def rebroadcast() -> None:
    """Broadcast what was committed and not sent, because the process died or Redis was away."""
    events_broadcast(events_not_broadcast(now=timezone.now()))


@shared_task
def delete_old_steps() -> None:
    old_steps_delete()
