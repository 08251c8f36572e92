"""Instances that fall ill and get well, looked at as time passes, and what people are told of it."""

from datetime import timedelta

from django.utils import timezone

from accounts.models import Mail
from integrations.alarms.engine import alarms_evaluate
from integrations.alarms.models import Alarm
from integrations.models import ServiceInstance

BEGIN = timezone.now() + timedelta(days=1)  # so that what is silenced from then on is silenced in the future


def fall_ill(row):
    ServiceInstance.objects.filter(pk=row.pk).update(is_healthy=False, health_reason="says 'DOWN'")


def get_well(row):
    ServiceInstance.objects.filter(pk=row.pk).update(is_healthy=True, health_reason="")


def look_at(seconds):
    """Look, so many seconds after the beginning. Return the states of all alarms."""
    alarms_evaluate(BEGIN + timedelta(seconds=seconds))
    return list(Alarm.objects.order_by("id").values_list("state", flat=True))


def firing(row):
    """Return the alarm of an instance, once it fires."""
    fall_ill(row)
    look_at(0)
    assert look_at(60)[-1] == "firing"
    return Alarm.objects.latest("id")


def told():
    return list(Mail.objects.order_by("id").values_list("kind", flat=True))


def history(alarm):
    return list(alarm.events.values_list("event", "is_notice"))
