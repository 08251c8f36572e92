"""How alarms begin and end: pending -> firing -> resolved.

A worker looks every few seconds. What is wrong must last (`wait`) before people hear of it, and be well for long enough
(`resolve_wait`) before they hear that it is over: what comes and goes tells nobody anything. Each step is a compare
and swap in a transaction of its own, together with what tells of it. So whoever dies, and however many look at once,
it is told once.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from gateway.batches import delete_in_batches
from gateway.locks import alone
from integrations.alarms.conditions import Seen, look
from integrations.alarms.delivery import event_record
from integrations.alarms.models import NOT_OVER, Alarm, AlarmEventKind, AlarmRule, AlarmState

logger = logging.getLogger(__name__)

LASTS = 60  # seconds, longer than a look takes
KEPT = timedelta(days=90)

Key = tuple[UUID | None, str]


def alarms_evaluate_alone() -> None:
    """Look, unless somebody is looking already."""
    with alone("alarms-evaluate", lasts=LASTS) as nobody_else_is_at_it:
        if nobody_else_is_at_it:
            alarms_evaluate(timezone.now())


def alarms_evaluate(now: datetime) -> None:
    """Look at everything that the rules watch, and let alarms begin and end."""
    # The alarms first: so the rules are not older, and an alarm without its rule here has none that is enabled.
    alarms = {(alarm.rule_id, alarm.subject): alarm for alarm in Alarm.objects.filter(state__in=NOT_OVER)}
    for rule in AlarmRule.objects.filter(is_enabled=True):
        try:
            for seen in look(rule, now):
                _step(rule, seen, alarms.pop((rule.id, seen.subject), None), now)
        except Exception:
            logger.exception("the alarm rule %s was not looked at", rule.id)
            for key in list(_keys_of(rule, alarms)):
                del alarms[key]  # nobody knows how these are
    for alarm in alarms.values():
        try:
            alarm_unwatched(alarm, now)
        except Exception:
            logger.exception("the alarm %s is not watched any more, and did not end", alarm.id)


def alarm_unwatched(alarm: Alarm, now: datetime) -> None:
    """End an alarm whose rule, or what it concerns, was changed or is gone."""
    if alarm.state == AlarmState.PENDING:
        _forget(alarm, now, is_unwatched=True)
    else:
        _resolve(alarm, now, is_unwatched=True)


def old_alarms_delete(*, batch: int = 1000) -> int:
    """Delete alarms that were over long ago, with their events. Return how many."""
    return delete_in_batches(Alarm.objects.filter(resolved_at__lt=timezone.now() - KEPT), batch=batch)


def _keys_of(rule: AlarmRule, alarms: dict[Key, Alarm]) -> Iterator[Key]:
    return (key for key in alarms if key[0] == rule.id)


def _step(rule: AlarmRule, seen: Seen, alarm: Alarm | None, now: datetime) -> None:
    if seen.is_so is None:
        return
    if alarm is None and seen.is_so:
        alarm = _begin(rule, seen, now)
    if alarm is None:
        return
    if alarm.state == AlarmState.FIRING:
        _step_firing(rule, seen, alarm, now)
    elif not seen.is_so:
        _forget(alarm, now)
    else:
        since = min(alarm.since, now)  # a clock that was set back must not make this wait for as long
        if now - since >= timedelta(seconds=rule.wait):
            _fire(rule, seen, alarm, now)
        elif since != alarm.since:
            _swap(alarm, since=since)


def _step_firing(rule: AlarmRule, seen: Seen, alarm: Alarm, now: datetime) -> None:
    if seen.is_so:
        if alarm.clear_since is not None:
            _swap(alarm, clear_since=None)
        if alarm.notified_at is None:
            _notify_late(alarm, now)
        return
    clear_since = min(alarm.clear_since or now, now)
    if now - clear_since >= timedelta(seconds=rule.resolve_wait):
        _resolve(alarm, now, Q(clear_since=alarm.clear_since))  # unless another look saw it ill meanwhile
    elif clear_since != alarm.clear_since:
        _swap(alarm, clear_since=clear_since)


def _begin(rule: AlarmRule, seen: Seen, now: datetime) -> Alarm | None:
    """Return the new alarm, None if somebody else was faster or the rule has just gone."""
    before = Alarm.objects.filter(rule=rule, subject=seen.subject).order_by("-id").first()
    alarm = Alarm(
        rule=rule,
        rule_name=rule.name,
        condition=rule.condition,
        severity=rule.severity,
        subject=seen.subject,
        value=seen.value,
        detail=seen.detail[:200],
        since=now,
        # Silence is for what it concerns: it lasts although the alarm ends and begins again.
        silenced_until=before.silenced_until if before is not None and before.is_silenced(now) else None,
    )
    try:
        with transaction.atomic():
            alarm.save(force_insert=True)
    except IntegrityError:
        return None
    return alarm


def _forget(alarm: Alarm, now: datetime, *, is_unwatched: bool = False) -> None:
    """Delete a pending alarm. One that somebody did something with is over instead: a silence, or its end, lasts."""
    with transaction.atomic():
        row = Alarm.objects.select_for_update().filter(id=alarm.id, state=AlarmState.PENDING).first()
        if row is None:
            return
        if row.events.exists():
            _resolve(row, now, is_unwatched=is_unwatched)
        else:
            row.delete()


def _fire(rule: AlarmRule, seen: Seen, alarm: Alarm, now: datetime) -> None:
    said = {"rule_name": rule.name, "severity": rule.severity, "value": seen.value, "detail": seen.detail[:200]}
    with transaction.atomic():
        row = _swap(alarm, state=AlarmState.FIRING, fired_at=now, **said)
        if row is not None:
            event_record(row, AlarmEventKind.FIRED, is_notice=_is_to_be_told(row, now))


def _notify_late(alarm: Alarm, now: datetime) -> None:
    """Tell of an alarm that began in silence, when that is over."""
    if alarm.acknowledged_at is not None or alarm.is_silenced(now):
        return
    untold = Q(notified_at=None, acknowledged_at=None) & (Q(silenced_until=None) | Q(silenced_until__lte=now))
    with transaction.atomic():
        row = _swap(alarm, untold, notified_at=now)
        if row is not None:
            event_record(row, AlarmEventKind.SILENCE_OVER, is_notice=True)


def _resolve(alarm: Alarm, now: datetime, *conditions: Q, is_unwatched: bool = False) -> None:
    with transaction.atomic():
        row = _swap(alarm, *conditions, state=AlarmState.RESOLVED, resolved_at=now, is_unwatched=is_unwatched)
        if row is not None:
            # Whoever did not hear of its beginning need not hear of its end.
            is_notice = row.notified_at is not None and not row.is_silenced(now)
            event_record(row, AlarmEventKind.RESOLVED, is_notice=is_notice)


def _is_to_be_told(row: Alarm, now: datetime) -> bool:
    """Return whether people are to hear of an alarm that fires, and put them down as told. The row is locked."""
    if row.acknowledged_at is not None or row.is_silenced(now):
        return False
    Alarm.objects.filter(id=row.id).update(notified_at=now)
    return True


def _swap(alarm: Alarm, *conditions: Q, **changes: Any) -> Alarm | None:
    """Change an alarm that is still in the state in which it was seen. Return it as it is then, else None.

    It stays locked until the commit.
    """
    if not Alarm.objects.filter(*conditions, id=alarm.id, state=alarm.state).update(**changes):
        return None
    return Alarm.objects.get(id=alarm.id)
