"""How alarms begin and end, and that people are told of each once, whatever happens meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection

from accounts.models import Mail, User
from accounts.tests.people import person_with
from conftest import PASSWORD
from gateway.locks import alone
from integrations.alarms import conditions, engine
from integrations.alarms.engine import alarms_evaluate_alone
from integrations.alarms.models import Alarm, AlarmRule, Condition
from integrations.alarms.services import rule_change, rule_create, rule_delete
from integrations.models import ServiceCheck, ServiceInstance
from integrations.tasks import evaluate_alarms
from integrations.tests.alarming import BEGIN, fall_ill, firing, get_well, history, look_at, told

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_no_rules")]


def test_it_fires_after_its_wait_and_is_over_after_the_other_and_administrators_are_told_once_of_each(
    admin, alice, runner, rule
):
    person_with("second", "admin")
    User.objects.create_superuser("gone", "gone@example.com", PASSWORD, is_active=False)
    fall_ill(runner)
    assert [look_at(seconds) for seconds in (0, 59, 60, 75)] == [["pending"], ["pending"], ["firing"], ["firing"]]
    get_well(runner)
    assert look_at(90) == ["firing"]
    fall_ill(runner)  # before it was well for long enough
    assert look_at(105) == ["firing"]
    get_well(runner)
    assert [look_at(seconds) for seconds in (120, 239, 240, 400)] == [["firing"]] * 2 + [["resolved"]] * 2
    alarm = Alarm.objects.get()
    assert history(alarm) == [("fired", True), ("resolved", True)]
    assert (alarm.subject, alarm.detail, alarm.is_unwatched) == ("runner http://runner", "says 'DOWN'", False)
    assert told() == ["alarm_firing"] * 2 + ["alarm_resolved"] * 2
    assert set(Mail.objects.values_list("address", flat=True)) == {"admin@example.com", "second@example.com"}


def test_what_comes_and_goes_tells_nobody(admin, runner, rule):
    for seconds in range(0, 200, 40):
        fall_ill(runner)
        assert look_at(seconds) == ["pending"]
        get_well(runner)
        assert look_at(seconds + 20) == []
    assert told() == []


def test_what_is_ill_again_after_the_end_is_another_alarm(admin, runner, rule):
    alarm = firing(runner)
    get_well(runner)
    look_at(70)
    look_at(190)
    fall_ill(runner)
    assert look_at(200) == ["resolved", "pending"]
    assert look_at(260) == ["resolved", "firing"]
    assert Alarm.objects.exclude(id=alarm.id).get().subject == alarm.subject


@pytest.mark.django_db(transaction=True)
def test_many_who_look_at_once_tell_it_once():
    User.objects.create_superuser("admin", "admin@example.com", PASSWORD)
    AlarmRule.objects.all().delete()
    AlarmRule.objects.create(condition=Condition.INSTANCE_DOWN, wait=0, resolve_wait=0)
    row = ServiceInstance.objects.create(kind="runner", base_url="http://runner", source="admin")
    together = Barrier(4)

    def look(_number):
        together.wait(timeout=30)
        try:
            return look_at(0)
        finally:
            connection.close()

    with ThreadPoolExecutor(together.parties) as executor:
        for change in (fall_ill, get_well):
            change(row)
            list(executor.map(look, range(together.parties)))
    alarm = Alarm.objects.get()
    assert (alarm.state, history(alarm)) == ("resolved", [("fired", True), ("resolved", True)])
    assert told() == ["alarm_firing", "alarm_resolved"]


def test_a_look_that_is_out_of_date_does_not_end_what_another_saw_ill_again(admin, runner, rule):
    firing(runner)
    get_well(runner)
    look_at(70)
    out_of_date = Alarm.objects.get()
    fall_ill(runner)
    look_at(100)
    engine._step(rule, conditions.Seen(str(runner), is_so=False), out_of_date, BEGIN + timedelta(seconds=200))
    assert Alarm.objects.get().state == "firing"
    assert told() == ["alarm_firing"]


def test_one_that_was_not_checked_since_it_came_back_is_not_known_to_be_well(admin, runner, rule):
    firing(runner)
    ServiceInstance.objects.update(is_healthy=None)
    assert [look_at(seconds) for seconds in (70, 400)] == [["firing"]] * 2


def test_beat_looks_and_only_one_at_a_time(admin, runner):
    AlarmRule.objects.create(condition=Condition.INSTANCE_DOWN, wait=0)
    fall_ill(runner)
    with alone("alarms-evaluate", lasts=60):
        alarms_evaluate_alone()
        assert not Alarm.objects.exists()
    evaluate_alarms()
    assert Alarm.objects.get().state == "firing"


def test_a_clock_that_was_set_back_costs_one_wait_and_no_more(admin, runner, rule):
    fall_ill(runner)
    assert look_at(3600) == ["pending"]
    assert [look_at(0), look_at(60)] == [["pending"], ["firing"]]
    get_well(runner)
    assert look_at(7200) == ["firing"]
    assert [look_at(100), look_at(220)] == [["firing"], ["resolved"]]
    assert told() == ["alarm_firing", "alarm_resolved"]


def disable(rule, runner, admin):
    rule_change(actor=admin, rule=rule, changes={"is_enabled": False})


def watch_others(rule, runner, admin):
    rule_change(actor=admin, rule=rule, changes={"kind": "archive"})


def delete_rule(rule, runner, admin):
    rule_delete(actor=admin, rule=rule, reason="too loud")


def delete_instance(rule, runner, admin):
    runner.delete()


@pytest.mark.parametrize("change", [disable, watch_others, delete_rule, delete_instance])
def test_what_is_no_longer_watched_is_over_and_that_is_told_once(admin, runner, rule, change):
    alarm = firing(runner)
    pending = ServiceInstance.objects.create(kind="runner", base_url="http://other", source="admin", is_healthy=False)
    look_at(61)
    change(rule, runner, admin)
    if change is not delete_instance:
        pending.delete()
    look_at(75)
    look_at(90)
    alarm.refresh_from_db()
    assert (alarm.state, alarm.is_unwatched) == ("resolved", True)
    assert told() == ["alarm_firing", "alarm_resolved"]
    assert "changed or is gone" in Mail.objects.latest("id").data["why"]
    assert not Alarm.objects.filter(state="pending").exclude(subject="runner http://other").exists()


def test_a_rule_that_is_changed_while_it_fires_holds_from_then_on(admin, runner, rule):
    ServiceCheck.objects.bulk_create(ServiceCheck(instance=runner, ok=True, latency_ms=900) for _ in range(9))
    ServiceCheck.objects.update(at=BEGIN)
    slow = rule_create(
        actor=admin, values={"condition": "latency", "threshold": 500, "percentile": 95, "wait": 0, "resolve_wait": 30}
    )
    assert look_at(0) == ["firing"]
    rule_change(actor=admin, rule=slow, changes={"threshold": 1000, "severity": "info"})
    assert [look_at(15), look_at(45)] == [["firing"], ["resolved"]]
    assert Alarm.objects.get().severity == "warning"  # as it was told


def test_a_rule_that_cannot_be_looked_at_keeps_its_alarms_and_stops_no_other(admin, runner, rule, monkeypatch, caplog):
    alarm = firing(runner)
    other = AlarmRule.objects.create(condition=Condition.SERVICE_DOWN, kind="runner", wait=0)

    def broken(_rule, _now):
        raise RuntimeError("no")

    monkeypatch.setitem(conditions._looks, Condition.INSTANCE_DOWN, broken)
    look_at(400)
    alarm.refresh_from_db()
    assert alarm.state == "firing"
    assert Alarm.objects.get(rule=other).state == "firing"
    assert str(rule.id) in caplog.text
