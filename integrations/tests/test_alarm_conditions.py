"""What alarms watch: each condition is seen in what the registry holds, and what is not known changes nothing."""

from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone
from django_redis import get_redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError

from integrations import fleet
from integrations.alarms import conditions, models
from integrations.alarms.models import Alarm, AlarmRule, Condition
from integrations.clients import breaker
from integrations.clients.errors import Reason, TransientError
from integrations.models import ServiceCheck, ServiceInstance
from integrations.tests.alarming import BEGIN, fall_ill, get_well, look_at

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_no_rules")]


def checks_of(row, *, failed=0, fine=0, latency_ms=10):
    ServiceCheck.objects.bulk_create(
        [ServiceCheck(instance=row, ok=False) for _ in range(failed)]
        + [ServiceCheck(instance=row, ok=True, latency_ms=latency_ms) for _ in range(fine)]
    )


def time_out(row):
    for _ in range(breaker.FAILURES):
        with pytest.raises(TransientError), breaker.protected(row.base_url, "POST"):
            raise TransientError(Reason.TIMEOUT, no_answer=True)


def stop_beating(row):
    ServiceInstance.objects.filter(pk=row.pk).update(
        is_healthy=True, time_to_live=15, heartbeat_at=timezone.now() - timedelta(minutes=1)
    )


def no_heartbeats_needed(_row):
    ServiceInstance.objects.update(time_to_live=None)


def drain(_row):
    ServiceInstance.objects.update(is_draining=True)


CASES = [
    ("instance_down", {}, fall_ill, get_well, None),
    ("instance_down", {}, stop_beating, no_heartbeats_needed, None),
    ("instance_down", {}, fall_ill, drain, None),
    ("service_down", {"kind": "runner"}, fall_ill, get_well, None),
    ("breaker_open", {}, time_out, lambda row: breaker.reset(row.base_url), None),
    ("check_errors", {"threshold": 20}, partial(checks_of, failed=1, fine=4), partial(checks_of, fine=1), 20),
    (
        "latency",
        {"threshold": 30, "percentile": 50},
        partial(checks_of, fine=5, latency_ms=30),
        partial(checks_of, fine=6),
        30,
    ),
]


@pytest.mark.parametrize(("condition", "fields", "spoil", "mend", "value"), CASES)
def test_each_condition_is_seen_in_what_the_registry_holds(runner, condition, fields, spoil, mend, value):
    rule = AlarmRule(condition=condition, **fields)
    get_well(runner)
    other = ServiceInstance.objects.create(kind="archive", base_url="http://archive", source="admin", is_healthy=True)
    checks_of(other, fine=5)
    subject = "runner" if condition == "service_down" else str(runner)

    def seen():
        return {each.subject: each for each in conditions.look(rule, timezone.now())}

    assert not any(each.is_so for each in seen().values())
    spoil(runner)
    found = seen()
    assert (found[subject].is_so, found[subject].value) == (True, value)
    assert [each.is_so for each in found.values()].count(True) == 1
    if condition != "service_down":
        assert found[str(other)].is_so is False
    mend(runner)
    after = seen()
    assert mend is drain or after[subject].is_so is False
    assert not any(each.is_so for each in after.values())


@pytest.mark.parametrize("fields", [{"condition": "check_errors"}, {"condition": "latency", "percentile": 50}])
def test_too_few_checks_say_nothing_and_old_ones_neither_so_it_does_not_end(admin, runner, fields):
    AlarmRule.objects.create(threshold=50, wait=0, resolve_wait=0, **fields)

    def check(*, seconds, number, bad):
        spoilt = {"failed": number} if bad and fields["condition"] == "check_errors" else {"fine": number}
        before = list(ServiceCheck.objects.values_list("id", flat=True))
        checks_of(runner, latency_ms=90 if bad else 1, **spoilt)
        ServiceCheck.objects.exclude(id__in=before).update(at=BEGIN + timedelta(seconds=seconds))

    check(seconds=0, number=4, bad=True)
    assert look_at(1) == []
    check(seconds=0, number=1, bad=True)
    assert [look_at(seconds) for seconds in (1, 400)] == [["firing"]] * 2
    check(seconds=400, number=4, bad=False)
    assert look_at(401) == ["firing"]
    check(seconds=400, number=1, bad=False)
    assert look_at(401) == ["resolved"]


def test_of_one_without_a_heartbeat_only_that_is_told(admin, runner):
    values = {"wait": 60, "resolve_wait": 0}
    AlarmRule.objects.create(condition=Condition.INSTANCE_DOWN, **values)
    AlarmRule.objects.create(condition=Condition.CHECK_ERRORS, threshold=50, **values)
    AlarmRule.objects.create(condition=Condition.LATENCY, threshold=50, percentile=50, **values)
    checks_of(runner, failed=9, fine=5, latency_ms=900)
    ServiceCheck.objects.update(at=BEGIN)
    look_at(0)
    assert {alarm.condition for alarm in Alarm.objects.all()} == {"check_errors", "latency"}
    stop_beating(runner)
    look_at(15)
    look_at(80)
    assert [(alarm.condition, alarm.state) for alarm in Alarm.objects.all()] == [("instance_down", "firing")]


def test_without_redis_nobody_knows_whether_a_breaker_has_closed(admin, runner, monkeypatch):
    AlarmRule.objects.create(condition=Condition.BREAKER_OPEN, wait=0, resolve_wait=0)
    time_out(runner)
    assert look_at(0) == ["firing"]

    def down(_alias):
        raise RedisConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(fleet, "get_redis_connection", down)
        assert [look_at(seconds) for seconds in (15, 30)] == [["firing"]] * 2  # the second time, it is not even asked
    fleet.ask_again()
    breaker.reset(runner.base_url)
    assert look_at(45) == ["resolved"]


def test_a_breaker_that_is_half_open_changes_nothing_but_not_for_ever(admin, runner):
    AlarmRule.objects.create(condition=Condition.BREAKER_OPEN, wait=60, resolve_wait=0)
    redis, name = get_redis_connection("default"), f"service-breaker:POST {runner.base_url}"

    def opened(ago):
        redis.hset(name, "opened_at", redis.time()[0] - ago)

    time_out(runner)
    seen = [look_at(0)]
    for seconds, ago in ((60, 30), (75, 0), (90, 30), (105, breaker.FAILING_SECONDS + 1)):
        opened(ago)
        seen.append(look_at(seconds))
    assert seen == [["pending"], ["pending"], ["firing"], ["firing"], ["resolved"]]


def test_every_condition_has_somebody_who_looks_and_a_sentence():
    assert set(conditions._looks) == set(models.SENTENCES) == set(Condition)
