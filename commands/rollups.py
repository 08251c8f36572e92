"""Counts what has ended, hour by hour, so that statistics need not go through the commands and outlive them.

An hour is counted anew as a whole for as long as something may be missing, and what was counted is replaced. So it does
not matter how often this runs, nor whether a run dies: it is one transaction, with the mark that says how far it got.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, ExpressionWrapper, F, Max, Min, Q, QuerySet, Sum
from django.db.models.fields import DurationField
from django.db.models.functions import TruncHour
from django.utils import timezone

from commands.models import Command, CommandRollup, RollupMark
from gateway.locks import transaction_lock

# A command gets its `finished_at` a moment before the commit, by the clock of a worker. What ended within the first
# of these is not counted yet, and each run goes back by the second for what was committed later still.
SETTLED, LATE = timedelta(minutes=1), timedelta(minutes=10)
HOUR = timedelta(hours=1)
AT_ONCE = timedelta(days=1)  # how much one transaction counts, after an upgrade, say
KEY = ("user_id", "hour", "mode", "status", "error_code")
WITHIN = {
    "within_200ms": timedelta(milliseconds=200),
    "within_500ms": timedelta(milliseconds=500),
    "within_1s": timedelta(seconds=1),
    "within_2s": timedelta(seconds=2),
    "within_5s": timedelta(seconds=5),
    "within_10s": timedelta(seconds=10),
    "within_30s": timedelta(seconds=30),
    "within_1m": timedelta(minutes=1),
    "within_5m": timedelta(minutes=5),
    "within_1h": timedelta(hours=1),
}
COUNTED = ("number", "took_sum", "took_max", *WITHIN)


def ended_commands() -> QuerySet[Command]:
    """Return what is counted: whole commands that have ended, each with how long it `took`."""
    took = ExpressionWrapper(F("finished_at") - F("created_at"), output_field=DurationField())
    return Command.objects.filter(only_stage=None, finished_at__isnull=False).alias(took=took).order_by()


def counts() -> dict[str, Any]:
    """Return what a group of ended commands is counted by, in the order of COUNTED."""
    within = {name: Count("pk", filter=Q(took__lte=limit)) for name, limit in WITHIN.items()}
    return {"number": Count("pk"), "took_sum": Sum("took"), "took_max": Max("took"), **within}


def commands_roll_up() -> None:
    """Count what has ended since the last time; after an upgrade, all that there is."""
    while not _roll_up_some():
        pass


def counted_for_good() -> datetime:
    """Return before when all that ended is counted, and is not counted again. What ended later must not be pruned."""
    return hour_of(RollupMark.objects.get().until - LATE)


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


@transaction.atomic
def _roll_up_some() -> bool:
    """Count on for AT_ONCE. Return whether that was all."""
    transaction_lock("commands: rollup")
    end = timezone.now() - SETTLED
    mark = RollupMark.objects.get()
    first = ended_commands().filter(finished_at__gte=mark.until).aggregate(first=Min("finished_at"))["first"]
    until = end if first is None else min(end, hour_of(first) + AT_ONCE)
    if until > mark.until:
        _count(since=hour_of(mark.until - LATE), until=until)
        mark.until = until
        mark.save()
    return until == end


def _count(*, since: datetime, until: datetime) -> None:
    ended = ended_commands().filter(finished_at__gte=since, finished_at__lt=until)
    groups = ended.annotate(hour=TruncHour("finished_at")).values(*KEY).annotate(**counts())
    CommandRollup.objects.bulk_create(
        (CommandRollup(**group) for group in groups.iterator(chunk_size=1000)),
        batch_size=1000,
        update_conflicts=True,
        unique_fields=KEY,
        update_fields=COUNTED,
    )
