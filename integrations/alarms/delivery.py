"""How people and the rooms above learn of an alarm: mails to the administrators, and news for whoever listens.

Both are written down with what they tell of, in one transaction. The mails lie in the outbox of accounts, which sends
them whatever dies meanwhile; the news are sent after the commit, and again by a sweep if they did not get through.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.dispatch import Signal
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.models.mail import MailKind
from accounts.powers import administrators
from accounts.services.mail import mail_send
from integrations.alarms.models import Alarm, AlarmEvent, AlarmEventKind

logger = logging.getLogger(__name__)

GRACE = timedelta(seconds=5)
PUBLISH_SECONDS = 30.0  # in which publishing begins: a listener that hangs must not hold a worker for longer
GIVE_UP = timedelta(days=1)
LIMIT = 1000

alarm_news = Signal()
"""Sent with `news`: an AlarmNews, at least once, possibly out of order.

A receiver that raises gets it again later, for a day.
"""


@dataclass(frozen=True)
class AlarmNews:
    """Something that happened to an alarm; `is_notice` if people are to be told, and not only shown it."""

    event_id: int
    event: AlarmEventKind
    at: datetime
    alarm_id: UUID
    condition: str
    severity: str
    subject: str
    title: str
    is_notice: bool


def event_record(
    alarm: Alarm, event: AlarmEventKind, *, actor: User | None = None, reason: str = "", is_notice: bool = False
) -> None:
    """Write down what happens to an alarm, in the transaction in which it does; mail it if it is a notice."""
    row = AlarmEvent.objects.create(
        alarm=alarm, event=event, actor_name=actor.username if actor else "", reason=reason, is_notice=is_notice
    )
    if is_notice:
        for user in administrators():
            _mail(alarm, event, user)
    # Robust: what goes wrong after the commit must not look like a failure of what was committed.
    transaction.on_commit(lambda: events_publish([row]), robust=True)


def events_publish(events: Sequence[AlarmEvent]) -> None:
    """Hand events to the listeners, and remember which got through everywhere, or did not for a day.

    One that a listener cannot take holds up no other.
    """
    until = time.monotonic() + PUBLISH_SECONDS
    for event in events:
        if time.monotonic() > until:
            return
        error = _error_of(event)
        if error is None:
            is_settled = True
        elif is_settled := event.at < timezone.now() - GIVE_UP:
            logger.error("event %s of alarm %s is given up: %r", event.pk, event.alarm_id, error)
        else:
            logger.warning("event %s of alarm %s was not published: %r", event.pk, event.alarm_id, error)
        if is_settled:
            AlarmEvent.objects.filter(pk=event.pk).update(published_at=timezone.now())


def _error_of(event: AlarmEvent) -> Exception | None:
    """Hand an event to the listeners. Return what went wrong."""
    try:
        outcomes = alarm_news.send_robust(sender=AlarmEvent, news=_news(event))
    except Exception as error:  # noqa: BLE001 - such as an event of a later release
        return error
    return next((result for _receiver, result in outcomes if isinstance(result, Exception)), None)


def events_publish_again() -> None:
    """Publish what was committed and not sent, because the process died or a listener could not take it."""
    waiting = AlarmEvent.objects.filter(published_at=None, at__lt=timezone.now() - GRACE).select_related("alarm")
    events_publish(list(waiting.order_by("id")[:LIMIT]))


def _news(event: AlarmEvent) -> AlarmNews:
    alarm = event.alarm
    return AlarmNews(
        event_id=event.pk,
        event=AlarmEventKind(event.event),
        at=event.at,
        alarm_id=alarm.id,
        condition=alarm.condition,
        severity=alarm.severity,
        subject=alarm.subject,
        title=alarm.title,
        is_notice=event.is_notice,
    )


def _mail(alarm: Alarm, event: AlarmEventKind, user: User) -> None:
    is_over = event is AlarmEventKind.RESOLVED
    with translation.override(user.language):
        data = {
            "severity": str(alarm.get_severity_display()),
            "title": str(alarm),
            "sentence": alarm.sentence,
            "since": _time(alarm.since),
            "until": _time(alarm.resolved_at),
            "why": _("Its rule, or what it concerns, was changed or is gone.") if alarm.is_unwatched else "",
            "page": reverse("admin:integrations_alarm_change", args=(alarm.id,)),
        }
    mail_send(MailKind.ALARM_RESOLVED if is_over else MailKind.ALARM_FIRING, user=user, data=data)


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""
