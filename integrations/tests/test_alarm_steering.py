"""What people make of alarms: acknowledged or silenced, by rules that make sense, and kept for a while."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import AuditEntry, Mail
from integrations.alarms.engine import KEPT
from integrations.alarms.models import THRESHOLDS, Alarm, AlarmEvent, AlarmRule, Condition
from integrations.alarms.services import alarm_acknowledge, alarm_silence, alarm_silence_end, rule_create
from integrations.tasks import delete_old_alarms, evaluate_alarms
from integrations.tests.alarming import BEGIN, fall_ill, firing, get_well, history, look_at, told

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_no_rules")]


# --- acknowledgement and silence ------------------------------------------------------------------------------------


def test_in_silence_nobody_is_told_and_when_it_is_over_once(admin, runner, rule):
    fall_ill(runner)
    look_at(0)
    until = BEGIN + timedelta(seconds=600)
    alarm_silence(actor=admin, alarm=Alarm.objects.get(), until=until, reason="new disks")
    look_at(60)
    look_at(599)
    assert told() == []
    look_at(600)
    look_at(615)
    alarm = Alarm.objects.get()
    assert told() == ["alarm_firing"]
    assert history(alarm) == [("silenced", False), ("fired", False), ("silence_over", True)]
    get_well(runner)
    look_at(630)
    look_at(750)
    assert told() == ["alarm_firing", "alarm_resolved"]


def test_who_did_not_hear_of_the_beginning_does_not_hear_of_the_end(admin, runner, rule):
    fall_ill(runner)
    look_at(0)
    alarm_silence(actor=admin, alarm=Alarm.objects.get(), until=BEGIN + timedelta(seconds=600), reason="new disks")
    look_at(60)
    get_well(runner)
    look_at(590)
    look_at(710)
    assert Alarm.objects.get().state == "resolved"
    assert told() == []


def test_silence_lasts_although_it_ends_and_begins_again_until_somebody_ends_it(admin, runner, rule):
    alarm = firing(runner)
    alarm_silence(actor=admin, alarm=alarm, until=BEGIN + timedelta(hours=5), reason="new disks")
    get_well(runner)
    look_at(70)
    look_at(190)
    fall_ill(runner)
    look_at(200)
    assert look_at(260) == ["resolved", "firing"]
    assert told() == ["alarm_firing"]
    alarm_silence_end(actor=admin, alarm=Alarm.objects.latest("id"), reason="done")
    look_at(275)
    assert told() == ["alarm_firing"] * 2
    get_well(runner)
    look_at(300)
    look_at(420)
    fall_ill(runner)
    look_at(430)
    assert Alarm.objects.latest("id").silenced_until is None


def test_a_silence_and_its_end_last_although_the_alarm_never_fired(admin, runner, rule):
    alarm = firing(runner)
    alarm_silence(actor=admin, alarm=alarm, until=BEGIN + timedelta(hours=5), reason="new disks")
    silences = []

    def silence_of_the_next(seconds):
        get_well(runner)
        look_at(seconds)
        look_at(seconds + 120)
        fall_ill(runner)
        look_at(seconds + 121)
        pending = Alarm.objects.get(state="pending")
        silences.append(pending.silenced_until and pending.silenced_until - BEGIN)
        return pending

    pending = silence_of_the_next(100)
    alarm_silence_end(actor=admin, alarm=pending)
    pending = silence_of_the_next(300)  # and that of the first does not revive
    alarm_silence(actor=admin, alarm=pending, until=BEGIN + timedelta(hours=6), reason="newer disks")
    silence_of_the_next(500)
    assert silences == [timedelta(hours=5), None, timedelta(hours=6)]
    assert list(Alarm.objects.order_by("id").values_list("state", flat=True)) == ["resolved"] * 3 + ["pending"]
    assert told() == ["alarm_firing"]


def test_one_that_is_acknowledged_is_not_told_again(admin, alice, runner, rule):
    alarm = firing(runner)
    Alarm.objects.update(notified_at=None, silenced_until=BEGIN + timedelta(seconds=100))  # it began in silence
    Mail.objects.all().delete()
    for actor in (admin, alice):
        alarm_acknowledge(actor=actor, alarm=alarm, reason="on my way")
    look_at(100)
    alarm.refresh_from_db()
    assert (told(), alarm.acknowledged_by) == ([], "admin")
    assert AuditEntry.objects.get(action="alarm_acknowledged").reason == "on my way"


# --- rules and what is kept -----------------------------------------------------------------------------------------


def test_the_rules_that_come_with_the_gateway_are_valid_watch_everything_and_do_not_come_back():
    call_command("migrate", verbosity=0)
    assert not AlarmRule.objects.exists()  # somebody deleted them
    make_rules = import_module("integrations.migrations.0002_alarms").make_rules
    make_rules(apps, None)
    rules = AlarmRule.objects.all()
    assert {rule.condition for rule in rules} == set(Condition)
    for rule in rules:
        rule.full_clean()
    evaluate_alarms()
    assert set(Alarm.objects.values_list("subject", flat=True)) == {"segmentation", "runner", "archive"}


BAD = [
    ({"condition": "x"}, {"condition"}),
    ({"condition": "instance_down", "threshold": 5}, {"threshold"}),
    ({"condition": "instance_down", "kind": "kitchen"}, {"kind"}),
    ({"condition": "check_errors"}, {"threshold"}),
    ({"condition": "check_errors", "threshold": 101}, {"threshold"}),
    ({"condition": "queue_length", "threshold": 0}, {"threshold"}),
    ({"condition": "queue_length", "threshold": 5, "kind": "runner"}, {"kind"}),
    ({"condition": "stuck_commands", "threshold": 10_081}, {"threshold"}),
    ({"condition": "stuck_commands", "threshold": 5, "percentile": 95}, {"percentile"}),
    ({"condition": "latency", "threshold": 5}, {"percentile"}),
    ({"condition": "latency", "threshold": 5, "percentile": 42}, {"percentile"}),
    ({"condition": "instance_down", "severity": "x"}, {"severity"}),
    ({"condition": "instance_down", "wait": 86_401}, {"wait"}),
    ({"condition": "instance_down", "resolve_wait": 86_401}, {"resolve_wait"}),
]


def test_a_rule_that_makes_no_sense_is_refused_field_by_field_and_by_the_database(admin):
    for values, fields in BAD:
        with pytest.raises(ValidationError) as refused:
            rule_create(actor=admin, values=values)
        assert refused.value.message_dict.keys() == fields, values
        with pytest.raises(IntegrityError), transaction.atomic():
            AlarmRule.objects.create(**values)
    with pytest.raises(ValidationError):
        rule_create(actor=admin, values={"condition": "instance_down", "name": "a\nb"})
    assert not AlarmRule.objects.exists()
    assert not AuditEntry.objects.filter(action="alarm_rule_created").exists()
    for condition, (lowest, highest, _unit) in THRESHOLDS.items():
        percentile = 99 if condition == "latency" else None
        for threshold in (lowest, highest):
            values = {"condition": condition, "threshold": threshold, "percentile": percentile}
            rule_create(actor=admin, values=values)


def test_alarms_that_were_over_long_ago_go_with_their_events(admin, runner, rule):
    alarm = firing(runner)
    delete_old_alarms()
    get_well(runner)
    look_at(70)
    look_at(190)
    delete_old_alarms()
    assert Alarm.objects.exists()
    Alarm.objects.update(resolved_at=timezone.now() - KEPT - timedelta(seconds=1))
    delete_old_alarms()
    assert not AlarmEvent.objects.filter(alarm_id=alarm.id).exists()
