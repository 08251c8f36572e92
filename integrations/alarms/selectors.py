from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404

from integrations.alarms.models import Alarm


def alarm_list(*, state: str | None = None, severity: str | None = None) -> QuerySet[Alarm]:
    given: dict[str, Any] = {"state": state, "severity": severity}
    return Alarm.objects.filter(**{name: value for name, value in given.items() if value})


def alarm_get(alarm_id: UUID) -> Alarm:
    """Return an alarm with its events. Raises Http404."""
    row = Alarm.objects.prefetch_related("events").filter(id=alarm_id).first()
    if row is None:
        raise Http404
    return row
