"""How alarms begin and end, and that people are told of each once, whatever happens meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from importlib import import_module
from threading import Barrier

import pytest
from django.apps import apps
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.translation import get_language
from django_redis import get_redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError

from accounts.models import AuditEntry, Mail, User
from accounts.services.mail import mails_send_due
from accounts.tests.people import person_with
from conftest import PASSWORD
from gateway.locks import alone
from integrations import fleet
from integrations.alarms import conditions, delivery, engine, models
from integrations.alarms.delivery import alarm_news, events_publish_again
from integrations.alarms.engine import KEPT, alarms_evaluate, alarms_evaluate_alone
from integrations.alarms.models import THRESHOLDS, Alarm, AlarmEvent, AlarmRule, Condition
from integrations.alarms.services import (
    alarm_acknowledge,
    alarm_silence,
    alarm_silence_end,
    rule_change,
    rule_create,
    rule_delete,
)
from integrations.clients import breaker
from integrations.clients.errors import Reason, TransientError
from integrations.models import ServiceCheck, ServiceInstance
from integrations.tasks import delete_old_alarms, evaluate_alarms

pytestmark = pytest.mark.django_db

BEGIN = timezone.now() + timedelta(days=1)  # so that what is silenced from then on is silenced in the future


@pytest.fixture(autouse=True)
def _no_rules(db):
    AlarmRule.objects.all().delete()


@pytest.fixture
def runner(db):
    return ServiceInstance.objects.create(kind="runner", base_url="http://runner", source="admin")


@pytest.fixture
def rule(db):
    return AlarmRule.objects.create(condition=Condition.INSTANCE_DOWN, severity="critical", wait=60, resolve_wait=120)


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


# --- begin and end --------------------------------------------------------------------------------------------------


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


# --- what is watched ------------------------------------------------------------------------------------------------


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


# --- how it is told -------------------------------------------------------------------------------------------------


def test_the_mail_goes_out_to_each_in_their_language(admin, runner, rule, monkeypatch):
    User.objects.create_superuser("yonetici", "yonetici@example.com", PASSWORD, language="tr")
    monkeypatch.setitem(models.SENTENCES, Condition.INSTANCE_DOWN, LanguageNow())
    alarm = firing(runner)
    assert mails_send_due() == 2
    assert [sent.subject for sent in mail.outbox if sent.to == ["admin@example.com"]] == [
        "Alarm (critical): an instance is down: runner http://runner"
    ]
    for sent, language in zip(mail.outbox, ("en", "tr"), strict=True):
        assert f"\n{language}\n" in f"\n{sent.body}"
        assert f"/admin/integrations/alarm/{alarm.id}/change/" in sent.body


class LanguageNow:
    def __str__(self):
        return str(get_language())


def test_who_is_deactivated_before_the_mail_goes_out_gets_none(admin, runner, rule):
    firing(runner)
    User.objects.update(is_active=False)
    assert mails_send_due() == 0
    assert mail.outbox == []


@pytest.fixture
def listener():
    heard = []

    def listen(news, **_kwargs):
        heard.append(news)
        if news.event in listen.fails_at:
            raise RuntimeError("no")

    listen.fails_at = ()
    listen.heard = heard
    alarm_news.connect(listen)
    yield listen
    alarm_news.disconnect(listen)


def test_the_rooms_above_get_news_after_the_commit(admin, runner, rule, listener, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        alarm = firing(runner)
    [news] = listener.heard
    assert (news.event, news.alarm_id, news.severity, news.is_notice) == ("fired", alarm.id, "critical", True)
    events_publish_again()
    assert len(listener.heard) == 1


def test_what_was_not_published_because_somebody_died_or_failed_is_published_again(
    admin, runner, rule, listener, monkeypatch
):
    firing(runner)  # committed, and then the process died
    events_publish_again()
    assert listener.heard == []  # its own process may be at it
    monkeypatch.setattr(delivery, "GRACE", timedelta(0))
    listener.fails_at = ("fired",)
    events_publish_again()
    listener.fails_at = ()
    events_publish_again()
    events_publish_again()
    assert [news.event for news in listener.heard] == ["fired", "fired"]


def test_one_that_a_listener_cannot_take_holds_up_no_other_and_is_given_up_in_the_end(
    admin, runner, rule, listener, monkeypatch, caplog
):
    monkeypatch.setattr(delivery, "GRACE", timedelta(0))
    listener.fails_at = ("fired",)
    alarm_acknowledge(actor=admin, alarm=firing(runner), reason="on my way")
    AlarmEvent.objects.create(alarm=Alarm.objects.get(), event="of a later release")

    def heard():
        listener.heard.clear()
        events_publish_again()
        return [news.event for news in listener.heard]

    assert [heard(), heard()] == [["fired", "acknowledged"], ["fired"]]
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "PUBLISH_SECONDS", -1)
        assert heard() == []
    AlarmEvent.objects.update(at=timezone.now() - delivery.GIVE_UP - timedelta(seconds=1))
    assert [heard(), heard()] == [["fired"], []]
    assert caplog.text.count("is given up") == 2


def test_one_that_cannot_end_holds_up_nothing(admin, runner, listener, monkeypatch):
    rule = AlarmRule.objects.create(condition=Condition.INSTANCE_DOWN, wait=0)
    fall_ill(runner)
    ServiceInstance.objects.create(kind="runner", base_url="http://other", source="admin", is_healthy=False)
    look_at(0)
    rule_change(actor=admin, rule=rule, changes={"is_enabled": False})
    monkeypatch.setattr(delivery, "GRACE", timedelta(0))
    real, failures = delivery.mail_send, [RuntimeError("no")]

    def fails_once(*args, **kwargs):
        if failures:
            raise failures.pop()
        real(*args, **kwargs)

    monkeypatch.setattr(delivery, "mail_send", fails_once)
    for left in (["firing", "resolved"], ["resolved", "resolved"]):
        evaluate_alarms()
        assert sorted(Alarm.objects.values_list("state", flat=True)) == left
    assert [news.event for news in listener.heard] == ["fired", "fired", "resolved", "resolved"]


def test_what_tells_of_it_is_written_with_it_or_not_at_all(admin, runner, rule, monkeypatch):
    fall_ill(runner)
    look_at(0)

    def died(*_args, **_kwargs):
        raise RuntimeError("died")

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "mail_send", died)
        assert look_at(60) == ["pending"]
    assert not AlarmEvent.objects.exists()
    assert look_at(75) == ["firing"]
    assert told() == ["alarm_firing"]


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
