"""What administrators do: make rules, acknowledge alarms, and silence them for a while."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts import audit
from accounts.audit import Action
from accounts.models import User
from gateway.api.errors import ApiError, ErrorCode
from integrations.alarms.delivery import event_record
from integrations.alarms.engine import alarm_unwatched
from integrations.alarms.models import NOT_OVER, Alarm, AlarmEventKind, AlarmRule, AlarmState

CHANGEABLE = ("name", "kind", "threshold", "percentile", "severity", "wait", "resolve_wait", "is_enabled")
LONGEST_SILENCE = timedelta(days=7)


def rule_create(*, actor: User, values: Mapping[str, Any], reason: str = "") -> AlarmRule:
    """Make a rule of `condition` and CHANGEABLE. Raises ValidationError (Django's), field by field."""
    rule = AlarmRule(**values)
    rule.full_clean()
    with transaction.atomic():
        rule.save(force_insert=True)
        changes = {name: (None, value) for name, value in values.items()}
        audit.record(Action.ALARM_RULE_CREATED, actor=actor, target=rule, changes=changes, reason=reason)
    return rule


def rule_change(*, actor: User, rule: AlarmRule, changes: Mapping[str, Any], reason: str = "") -> AlarmRule:
    """Change what CHANGEABLE names. Alarms that fire go on, or end if it is no longer watched what they concern.

    Raises ValidationError (Django's), field by field; Http404 if it is gone.
    """
    with transaction.atomic():
        row = _locked_rule(rule)
        changed = audit.changes_between({name: getattr(row, name) for name in changes}, changes)
        for name in changed:
            setattr(row, name, changes[name])
        row.full_clean()
        if changed:
            row.save(update_fields=list(changed))
            audit.record(Action.ALARM_RULE_CHANGED, actor=actor, target=row, changes=changed, reason=reason)
    return row


def rule_delete(*, actor: User, rule: AlarmRule, reason: str = "") -> None:
    """Delete a rule: its alarms end. Raises Http404 if it is gone."""
    with transaction.atomic():
        row = _locked_rule(rule)  # so that nobody begins another alarm of it
        for alarm in Alarm.objects.filter(rule=row, state__in=NOT_OVER):
            alarm_unwatched(alarm, timezone.now())
        audit.record(Action.ALARM_RULE_DELETED, actor=actor, target=row, reason=reason)
        row.delete()


def alarm_acknowledge(*, actor: User, alarm: Alarm, reason: str) -> Alarm:
    """Put somebody down as seeing to it: it is not told again. The first who does so stands.

    Raises ApiError (alarm_is_over), Http404.
    """
    with transaction.atomic():
        row = _locked(alarm)
        if row.acknowledged_at is None:
            row.acknowledged_at, row.acknowledged_by = timezone.now(), actor.username
            row.save(update_fields=["acknowledged_at", "acknowledged_by"])
            event_record(row, AlarmEventKind.ACKNOWLEDGED, actor=actor, reason=reason)
            audit.record(Action.ALARM_ACKNOWLEDGED, actor=actor, target=row, reason=reason)
    return row


def alarm_silence(*, actor: User, alarm: Alarm, until: datetime, reason: str) -> Alarm:
    """Tell nobody of an alarm until then, also if it ends and begins again.

    Raises ValidationError (`until` has passed, or is too far away), ApiError (alarm_is_over), Http404.
    """
    now = timezone.now()
    if not now < until <= now + LONGEST_SILENCE:
        sentence = _("Must be in the future, and at most 7 days ahead.")
        raise ValidationError({"until": [ErrorDetail(sentence, code="out_of_bounds")]})
    return _silenced(actor, alarm, until, reason, AlarmEventKind.SILENCED, Action.ALARM_SILENCED)


def alarm_silence_end(*, actor: User, alarm: Alarm, reason: str = "") -> Alarm:
    """End the silence of an alarm, if there is any. Raises ApiError (alarm_is_over), Http404."""
    return _silenced(actor, alarm, None, reason, AlarmEventKind.SILENCE_ENDED, Action.ALARM_SILENCE_ENDED)


def _silenced(
    actor: User, alarm: Alarm, until: datetime | None, reason: str, event: AlarmEventKind, action: Action
) -> Alarm:
    with transaction.atomic():
        row = _locked(alarm)
        if row.silenced_until != until:
            changes = {"silenced_until": (_text(row.silenced_until), _text(until))}
            row.silenced_until = until
            row.save(update_fields=["silenced_until"])
            event_record(row, event, actor=actor, reason=reason)
            audit.record(action, actor=actor, target=row, changes=changes, reason=reason)
    return row


def _locked(alarm: Alarm) -> Alarm:
    row = Alarm.objects.select_for_update(no_key=True).filter(pk=alarm.pk).first()
    if row is None:
        raise Http404
    if row.state == AlarmState.RESOLVED:
        raise ApiError(ErrorCode.ALARM_IS_OVER)
    return row


def _locked_rule(rule: AlarmRule) -> AlarmRule:
    row = AlarmRule.objects.select_for_update().filter(pk=rule.pk).first()
    if row is None:
        raise Http404
    return row


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
