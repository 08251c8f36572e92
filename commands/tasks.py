from celery import shared_task
from django.utils import timezone

from commands.claims import stages_with_work
from commands.deadlines import deadlines_enforce
from commands.dispatch import wake
from commands.events import events_broadcast
from commands.limits import let_go_what_may
from commands.partitions import months_make
from commands.pipeline import engine
from commands.retention import old_months_drop, prune
from commands.selectors import events_not_broadcast
from commands.states import Stage
from gateway.health import worker_works


@shared_task
def advance(stage: str) -> None:
    """Do what there is to do at that stage."""
    engine.work(Stage(stage))
    worker_works(stage)


@shared_task
def sweep() -> None:
    """Hold the deadlines, and wake every stage that has work: the net under lost messages and dead workers."""
    deadlines_enforce()
    for stage in {*let_go_what_may(), *stages_with_work(now=timezone.now())}:
        wake(stage)


@shared_task
def rebroadcast() -> None:
    """Broadcast what was committed and not sent, because the process died or Redis was away."""
    events_broadcast(events_not_broadcast(now=timezone.now()))


@shared_task
def delete_old() -> None:
    """Delete what the rules of retention no longer keep, a part of it."""
    prune()


@shared_task
def keep_months() -> None:
    """Make the partitions of events ahead of time, and drop the old ones."""
    months_make()
    old_months_drop()
