"""Statistics of what has ended and of what is going on: exact to the moment, and without a look at all the history."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, QuerySet, Subquery, Sum
from django.db.models.functions import Trunc

from commands.models import Command, CommandRollup, RollupMark
from commands.rollups import COUNTED, WITHIN, counts, ended_commands
from commands.states import TERMINAL, Status

INTERVALS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_GROUP = ("mode", "status", "error_code")


@dataclass
class Durations:
    """How long commands took."""

    number: int = 0
    total: timedelta = timedelta()
    longest: timedelta = timedelta()
    within: Counter[str] = field(default_factory=Counter)

    @property
    def mean(self) -> timedelta | None:
        return self.total / self.number if self.number else None

    def percentile(self, percent: int) -> timedelta | None:
        """Return what so many percent did not exceed, rounded up to a limit that is counted."""
        if not self.number:
            return None
        limits = (limit for name, limit in WITHIN.items() if self.within[name] * 100 >= self.number * percent)
        return min(next(limits, self.longest), self.longest)


@dataclass
class Stats:
    """What ended from `since` on and before `until`, and what has not ended now."""

    since: datetime
    until: datetime
    by_status: Counter[str] = field(default_factory=Counter)
    by_mode: Counter[str] = field(default_factory=Counter)
    by_error: Counter[str] = field(default_factory=Counter)
    completed: Durations = field(default_factory=Durations)
    series: dict[datetime, Counter[str]] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        return self.by_status.total()

    @property
    def success_rate(self) -> float | None:
        """Completed ones among those that were completed or failed; whoever cancels one says nothing about that."""
        judged = self.by_status[Status.COMPLETED] + self.by_status[Status.FAILED]
        return self.by_status[Status.COMPLETED] / judged if judged else None


def command_stats(*, user_id: UUID | None, since: datetime, until: datetime, interval: str | None = None) -> Stats:
    """Return the statistics of somebody's commands, or of everybody's, for whole hours; with a series if wanted."""
    stats = Stats(since, until, in_flight=_in_flight(user_id))
    if interval is not None:
        at, step = since if interval == "hour" else since.replace(hour=0), INTERVALS[interval]
        while at < until:
            stats.series[at] = Counter()
            at += step
    for mode, status, error, *counted in _groups(user_id, since, until, interval):
        if interval is not None:
            stats.series[counted.pop(0)][status] += counted[0]
        _add(stats, mode, status, error, dict(zip(COUNTED, counted, strict=True)))
    return stats


def _add(stats: Stats, mode: str, status: str, error: str, counted: dict[str, Any]) -> None:
    number = counted["number"]
    stats.by_status[status] += number
    stats.by_mode[mode] += number
    if error:
        stats.by_error[error] += number
    if status == Status.COMPLETED:
        took = stats.completed
        took.number += number
        took.total += counted["took_sum"]
        took.longest = max(took.longest, counted["took_max"])
        took.within.update({name: counted[name] for name in WITHIN})


def _groups(user_id: UUID | None, since: datetime, until: datetime, interval: str | None) -> Iterator[list[Any]]:
    """Return the counts of rollups and, in the same statement, of what ended after them: so nothing is there twice."""
    rolled = CommandRollup.objects.filter(hour__gte=since, hour__lt=until).order_by()
    ended = _not_rolled_up().filter(finished_at__gte=since, finished_at__lt=until)
    if user_id is not None:
        rolled, ended = rolled.filter(user_id=user_id), ended.filter(user_id=user_id)
    group = [*_GROUP]
    if interval is not None:
        group.append("at")
        rolled, ended = rolled.annotate(at=Trunc("hour", interval)), ended.annotate(at=Trunc("finished_at", interval))
    sums = {f"all_{name}": Max(name) if name == "took_max" else Sum(name) for name in COUNTED}
    lives = {f"all_{name}": count for name, count in counts().items()}
    of_rollups = rolled.values(*group).annotate(**sums).values_list(*group, *sums)
    of_ended = ended.values(*group).annotate(**lives).values_list(*group, *lives)
    for row in of_rollups.union(of_ended, all=True):
        yield list(row)


def _not_rolled_up() -> QuerySet[Command]:
    """Return what ended and is in no rollup. The mark may move on before the statement, but never back."""
    mark = RollupMark.objects.get().until
    # The first says to the planner how little it is, the second how little it is by now.
    ended = ended_commands().filter(finished_at__gte=mark)
    return ended.filter(finished_at__gte=Subquery(RollupMark.objects.values("until")))


def _in_flight(user_id: UUID | None) -> dict[str, int]:
    going_on = [status for status in Status if status not in TERMINAL]
    commands = Command.objects.filter(only_stage=None).order_by()
    if user_id is None:
        commands = commands.filter(finished_at=None)
    else:
        commands = commands.filter(user_id=user_id, status__in=going_on)
    found = dict(commands.values_list("status").annotate(Count("pk")))
    return {status: found.get(status, 0) for status in going_on}
