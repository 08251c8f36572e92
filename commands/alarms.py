"""What alarm rules can watch of commands. Each looks only at what has not finished, or was worked on lately."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from commands.models import Command, CommandEvent, Outcome, StageRun
from commands.states import Stage
from gateway.ids import first_id_at
from integrations.alarms.conditions import WINDOW, Seen, kinds_of, measures, share
from integrations.alarms.models import THRESHOLDS, AlarmRule, Condition
from integrations.clients.errors import Reason

MOST_STUCK = 1000  # counted
# A try that began earlier than this and ends now counts for nothing: so the primary key finds those that count.
BEGUN_WITHIN = 3 * WINDOW
# Tries that the gateway itself held back, which say nothing of the service; and what is the fault of a service, and
# not of what it was asked.
_NO_CALL = [f"{stage}_{reason}" for stage in Stage.values for reason in (Reason.BUSY, Reason.LEFT_ALONE)]
_FAULTS = [
    f"{stage}_{reason}"
    for stage in Stage.values
    for reason in (*Reason, "unknown_call")
    if reason is not Reason.REFUSED
]


def waiting_commands(now: datetime) -> QuerySet[Command]:
    """Return the commands that are due and that no worker has taken. Those that are held wait for their user's own."""
    free = Q(lease_expires_at=None) | Q(lease_expires_at__lte=now)
    return Command.objects.filter(free, finished_at=None, held=False, due_at__lte=now).order_by()


@measures(Condition.QUEUE_LENGTH)
def queue_length(rule: AlarmRule, now: datetime) -> Iterable[Seen]:
    """Count the commands that are due and that no worker has taken, no further than a threshold can be."""
    _lowest, most, _unit = THRESHOLDS[Condition.QUEUE_LENGTH]
    count = waiting_commands(now)[:most].count()
    yield Seen("", count >= (rule.threshold or 0), count)


@measures(Condition.STUCK_COMMANDS)
def stuck_commands(rule: AlarmRule, now: datetime) -> Iterable[Seen]:
    """Count the commands that have not finished, and whose last event is as old as the threshold, in minutes."""
    before = now - timedelta(minutes=rule.threshold or 0)
    recent = CommandEvent.objects.filter(command=OuterRef("pk"), seq=OuterRef("last_seq"), at__gt=before)
    stuck = Command.objects.filter(~Exists(recent), finished_at=None, created_at__lte=before).order_by()
    ids = list(stuck.values_list("id", flat=True)[:MOST_STUCK])
    yield Seen("", bool(ids), len(ids), str(min(ids, default="")))


@measures(Condition.CALL_ERRORS)
def call_errors(rule: AlarmRule, now: datetime) -> Iterable[Seen]:
    """Say, for each service, how many of the tries that ended lately ended by a fault of the service.

    Without any try nothing fails, so the alarm ends: else it would fire for as long as nobody has work.
    """
    ended = StageRun.objects.exclude(error_code__in=_NO_CALL).filter(
        pk__gte=first_id_at(now - BEGUN_WITHIN),
        finished_at__gt=now - WINDOW,
        outcome__in=[Outcome.SUCCEEDED, Outcome.FAILED],
    )
    faults = Count("id", filter=Q(outcome=Outcome.FAILED, error_code__in=_FAULTS))
    counted = ended.order_by().values_list("stage").annotate(failed=faults, total=Count("id"))
    counts = {stage: (failed, total) for stage, failed, total in counted}
    for kind in kinds_of(rule):
        failed, total = counts.get(kind, (0, 0))
        yield share(rule, str(kind), failed, total) if total else Seen(str(kind), is_so=False)
