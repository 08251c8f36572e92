"""Deletes what was kept long enough: commands, their events, their tries and their files, by the rules of each.

A rule goes through the commands that ended in its way, the earliest first, a batch per transaction, and remembers how
far it has come: so what dies midway goes on from there, and nothing is looked at twice. What has not ended is never
touched, and no command goes before the statistics have counted it. On PostgreSQL, events go a month at a time where
they can.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from commands import kept_answers
from commands.models import Command, CommandEvent, Kept, Outcome, RetentionRule, StageRun
from commands.partitions import Month, is_partitioned, month_drop, months
from commands.rollups import counted_for_good
from commands.states import Stage
from files.services import files_delete
from gateway.locks import alone

logger = logging.getLogger(__name__)

BATCH = 200
# Of each minute, so that others who wait for the same workers and the same disk have their turn.
PRUNE_SECONDS = 5.0
# Events that are soon dropped with their month are left to that. After so long it was held up by a command of the
# month that took long to end, and they go in batches like others.
LATE = timedelta(days=62)
FILE_FIELDS = ("alt_file", "last_file", "atlas_file")


@dataclass(frozen=True)
class Due:
    """A rule, and the moment before which the commands ended that it is about now."""

    rule: RetentionRule
    ended_by: datetime


def prune(*, seconds: float = PRUNE_SECONDS, batch: int = BATCH) -> Counter[str]:
    """Delete what is old enough, for so long at most; each rule has its turn. Return how much of what.

    Two at once do no harm, but the second has nothing to do.
    """
    deleted: Counter[str] = Counter()
    with alone("prune", lasts=2 * seconds) as entered:
        waiting = list(due(timezone.now())) if entered else []
        stops_at = monotonic() + seconds
        while waiting and monotonic() < stops_at:
            each = waiting.pop(0)
            count, has_more = _prune_batch(each, batch)
            deleted[each.rule.what] += count
            if has_more:
                waiting.append(each)
    if deleted.total():
        logger.info("old: deleted %s", ", ".join(f"{count} {what}" for what, count in deleted.items() if count))
    return deleted


def due(now: datetime) -> Iterable[Due]:
    """Return the rules that delete anything, and how far they may go."""
    rules = list(RetentionRule.objects.exclude(keep_days=None).order_by("pk"))
    longest = _longest_kept_events() if is_partitioned() else None
    counted = counted_for_good() - timedelta(microseconds=1)  # rules go up to a moment, and including it
    for rule in rules:
        kept = timedelta(days=rule.keep_days or 0)
        with_month = rule.what == Kept.EVENTS and kept == longest
        ended_by = now - kept - (LATE if with_month else timedelta())
        yield Due(rule, min(ended_by, counted) if rule.what == Kept.COMMANDS else ended_by)


def old_months_drop(*, now: datetime | None = None) -> list[Month]:
    """Drop the months whose commands have all ended so long ago that none of their events is kept. Return them."""
    longest, now = _longest_kept_events(), now or timezone.now()
    if longest is None or not is_partitioned():
        return []
    old = [month for month in months() if month.end <= now - longest]
    dropped = [month for month in old if not _is_needed(month, now) and month_drop(month)]
    for month in dropped:
        logger.info("old: dropped the events of the month %s", f"{month.start:%Y-%m}")
    return dropped


def _longest_kept_events() -> timedelta | None:
    """Return for how long any events are kept, None if for ever."""
    days = _days_of_events().values()
    return None if None in days else timedelta(days=max(day for day in days if day is not None))


def _days_of_events() -> dict[str, int | None]:
    rules = {(rule.what, rule.status): rule.keep_days for rule in RetentionRule.objects.all()}
    return {
        status: days if days is not None else rules[Kept.COMMANDS, status]
        for (what, status), days in rules.items()
        if what == Kept.EVENTS
    }


def _is_needed(month: Month, now: datetime) -> bool:
    first, end = month.ids
    kept = Q(finished_at=None)
    for status, days in _days_of_events().items():
        kept |= Q(status=status, finished_at__gt=now - timedelta(days=days or 0))
    return Command.objects.filter(kept, id__gte=first, id__lt=end).exists()


def _prune_batch(each: Due, batch: int) -> tuple[int, bool]:
    """Do a batch for a rule. Return how much was deleted, and whether there is more to do."""
    try:
        with transaction.atomic():
            rule = RetentionRule.objects.select_for_update(no_key=True).get(pk=each.rule.pk)
            if rule.keep_days != each.rule.keep_days:  # an administrator has just changed it
                return 0, False
            ended = list(_ended(rule, each.ended_by).values_list("finished_at", "id")[:batch])
            count = _DELETE[Kept(rule.what)]([command_id for _finished_at, command_id in ended]) if ended else 0
            has_more = len(ended) == batch
            rule.done_at, rule.done_id = ended[-1] if has_more else (each.ended_by, None)
            rule.deleted += count
            rule.save(update_fields=["done_at", "done_id", "deleted"])
    except IntegrityError as error:  # a retry or a step has just begun to work on one of the files
        logger.warning("old: tried again later: %s", error)
        return 0, False
    return count, has_more


def _ended(rule: RetentionRule, ended_by: datetime) -> QuerySet[Command]:
    """Return the commands that a rule has not come to yet, in the order in which it does."""
    rows = Command.objects.filter(status=rule.status, finished_at__lte=ended_by).order_by("finished_at", "id")
    if rule.done_at is None:
        return rows
    rows = rows.filter(finished_at__gte=rule.done_at)
    if rule.done_id is None:
        return rows.exclude(finished_at=rule.done_at)
    return rows.exclude(finished_at=rule.done_at, id__lte=rule.done_id)


def _events_delete(command_ids: list[UUID]) -> int:
    return CommandEvent.objects.filter(command_id__in=command_ids).delete()[0]


def _stage_runs_delete(command_ids: list[UUID]) -> int:
    """Delete all but those by which the search in the archive knows whose an entry is."""
    runs = StageRun.objects.filter(command_id__in=command_ids)
    return runs.exclude(stage=Stage.ARCHIVE, outcome=Outcome.SUCCEEDED).delete()[0]


def _files_let_go(command_ids: list[UUID]) -> int:
    commands = Command.objects.filter(id__in=command_ids)
    files = _files_of(commands)
    commands.filter(_has_files()).update(**dict.fromkeys(FILE_FIELDS))
    _forget_on_commit(command_ids)
    return _unused_delete(files)


def _commands_delete(command_ids: list[UUID]) -> int:
    commands = Command.objects.filter(id__in=command_ids)
    files = _files_of(commands)
    _forget_on_commit([*command_ids, *Command.objects.filter(retry_of__in=command_ids).values_list("pk", flat=True)])
    commands.delete()
    _unused_delete(files)
    return len(command_ids)


def _forget_on_commit(command_ids: list[UUID]) -> None:
    """Let no answer tell of them as they were."""
    transaction.on_commit(lambda: kept_answers.forget(command_ids))


_DELETE: dict[Kept, Callable[[list[UUID]], int]] = {
    Kept.COMMANDS: _commands_delete,
    Kept.EVENTS: _events_delete,
    Kept.STAGE_RUNS: _stage_runs_delete,
    Kept.FILES: _files_let_go,
}


def _has_files() -> Q:
    return ~Q(**dict.fromkeys(FILE_FIELDS))


def _files_of(commands: QuerySet[Command]) -> set[UUID]:
    rows = commands.values_list(*(f"{field}_id" for field in FILE_FIELDS))
    return {file_id for row in rows for file_id in row if file_id is not None}


def _unused_delete(file_ids: set[UUID]) -> int:
    """Delete the files that no command refers to any more: retries and steps work on files of others."""
    used: set[UUID | None] = set()
    for field in FILE_FIELDS:
        used |= set(Command.objects.filter(**{f"{field}__in": file_ids}).values_list(f"{field}_id", flat=True))
    return files_delete(ids=file_ids - used)
