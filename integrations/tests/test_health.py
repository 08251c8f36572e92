"""How instances fall ill and are well again, and what is kept of it."""

from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from django_redis import get_redis_connection

from gateway.health import NotReadyError
from gateway.locks import alone
from integrations import health
from integrations.clients import breaker
from integrations.clients.breaker import protected
from integrations.clients.errors import Reason, TransientError
from integrations.events import service_changed
from integrations.health import Look, call_failed, check_instances, checked
from integrations.models import Illness, ServiceCheck, ServiceInstance, ServiceKind, ServiceState, Source
from integrations.registry import choose, instance_of
from integrations.tasks import check_services, delete_old_checks

pytestmark = pytest.mark.django_db

OK, BAD = Look(ok=True, reason="", latency_ms=3), Look(ok=False, reason="says 'DOWN'", latency_ms=4)


@pytest.fixture(autouse=True)
def _at_once_and_on_this_machine(monkeypatch, settings):
    monkeypatch.setattr(health, "JITTER_SECONDS", 0)
    settings.SERVICE_PRIVATE_ADDRESSES = True


@pytest.fixture
def runner(db):
    return ServiceInstance.objects.create(kind=ServiceKind.RUNNER, base_url="http://runner", source=Source.API)


def looks(row, *outcomes):
    """Return how healthy it is after each of these."""
    seen = []
    for outcome in outcomes:
        checked(row.id, outcome)
        row.refresh_from_db()
        seen.append(row.is_healthy)
    return seen


def test_the_first_look_decides_and_then_it_takes_two_in_a_row(runner):
    assert looks(runner, OK, BAD, OK, BAD, BAD) == [True, True, True, True, False]
    assert looks(runner, OK, BAD, OK, OK, BAD) == [False, False, False, True, True]


def test_one_that_is_ill_from_the_beginning_is_not_used(runner):
    assert looks(runner, BAD) == [False]


def test_since_when_and_why_is_kept_until_it_changes(runner):
    looks(runner, OK)
    well_since = runner.health_since
    looks(runner, OK, BAD)
    assert (runner.health_since, runner.health_reason) == (well_since, "")
    looks(runner, BAD)
    assert runner.health_since > well_since
    assert runner.health_reason == "says 'DOWN'"
    assert runner.state == ServiceState.UNHEALTHY


def test_calls_that_fail_count_like_checks_and_are_no_checks(runner):
    looks(runner, OK)
    for _ in range(2):
        call_failed(ServiceKind.RUNNER, runner.base_url, "timeout")
    runner.refresh_from_db()
    assert (runner.is_healthy, runner.health_reason, runner.public_reason) == (False, "timeout", "calls_fail")
    assert ServiceCheck.objects.count() == 1
    call_failed(ServiceKind.RUNNER, "http://nobody", "timeout")


def test_one_that_hangs_in_all_but_its_check_is_ill_until_a_call_was_good(server, transactional_db):
    """Else it would be well and ill by turns, and nobody hear of it."""

    def call(error=None):
        with suppress(TransientError), protected(server.url, "POST"):
            if error is not None:
                raise error

    def after_rounds(number):
        seen = []
        for _ in range(number):
            check_instances()
            row.refresh_from_db()
            health._check(ServiceKind.RUNNER)()  # clients are not kept away: their calls find out
            seen.append((row.is_healthy, row.public_reason))
        return seen

    server.says({"status": "ok"})
    [row] = runners(server.url)
    assert after_rounds(1) == [(True, "")]
    for _ in range(breaker.FAILURES):
        call(TransientError(Reason.TIMEOUT, no_answer=True))
    assert after_rounds(3) == [(False, "calls_fail")] * 3
    redis, name = get_redis_connection("default"), f"service-breaker:POST {server.url}"
    redis.hincrbyfloat(name, "opened_at", -breaker.RESET_SECONDS - 1)
    assert after_rounds(2) == [(False, "calls_fail")] * 2  # it may be tried, which says nothing yet
    [other] = runners(f"{server.url}/other", is_healthy=True)
    assert choose(ServiceKind.RUNNER).base_url == server.url  # one call finds out, though it is ill
    assert choose(ServiceKind.RUNNER).base_url == other.base_url
    other.delete()
    call()
    assert after_rounds(2) == [(False, "calls_fail"), (True, "")]
    for _ in range(breaker.FAILURES):
        call(TransientError(Reason.ERROR))
    assert after_rounds(1) == [(False, "calls_fail")]
    redis.hincrbyfloat(name, "opened_at", -breaker.FAILING_SECONDS - 1)  # nobody called it any more
    assert after_rounds(2)[-1] == (True, "")
    server.says({"status": "DOWN"})
    for _ in range(breaker.FAILURES):
        call(TransientError(Reason.ERROR))
    check_instances()
    check_instances()
    row.refresh_from_db()
    assert (row.is_healthy, row.public_reason) == (False, "says_so")
    with pytest.raises(NotReadyError):
        health._check(ServiceKind.RUNNER)()
    server.says({"status": "ok"})
    assert after_rounds(1) == [(False, "calls_fail")]  # the check is good again: now only a call is missing


def test_one_that_is_ill_says_what_its_last_check_found(transactional_db):
    [row] = runners("http://runner")
    for illness in (Illness.SAYS_SO, Illness.NO_ANSWER):
        checked(row.id, Look(ok=False, reason=f"of {illness}", latency_ms=None, illness=illness))
    call_failed(ServiceKind.RUNNER, row.base_url, "timeout")  # which the check explains
    row.refresh_from_db()
    assert (row.illness, row.health_reason) == (Illness.NO_ANSWER, "of no_answer")


def test_what_nobody_checks_any_more_is_not_called_well_and_gets_work_all_the_same(runner, client):
    looks(runner, OK)
    long_ago = timezone.now() - timedelta(seconds=61)
    ServiceInstance.objects.update(checked_at=long_ago)
    runner.refresh_from_db()
    assert (runner.state, runner.reason) == ("unhealthy", "was not checked lately")
    body = client.get("/health/services/runner").json()
    [public] = body["instances"]
    assert (body["status"], public["state"], public["reason"]) == ("unavailable", "unhealthy", "not_checked")
    assert datetime.fromisoformat(public["checked_at"]) - long_ago < timedelta(seconds=1)
    assert not instance_of(runner).may_be_ill
    looks(runner, OK)
    assert runner.state == "healthy"


def test_one_that_was_deregistered_meanwhile_is_no_error(runner):
    runner_id = runner.id
    runner.delete()
    checked(runner_id, OK)
    assert not ServiceCheck.objects.exists()


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [
        ((200, '{"status": "ok"}'), True),
        ((200, '{"status": "UP", "version": "2"}'), True),
        ((200, "OK\n"), True),
        ((200, '{"status": "DOWN"}'), False),
        ((200, "\x01" * 60 + "\0" * 300), False),
        ((500, '{"status": "ok"}'), False),
    ],
)
def test_real_instances_are_asked(server, answer, healthy, transactional_db):
    status, body = answer
    server.says(body.encode(), status)
    row = ServiceInstance.objects.create(kind=ServiceKind.RUNNER, base_url=server.url, source=Source.SETTINGS)
    disabled = ServiceInstance.objects.create(
        kind=ServiceKind.RUNNER, base_url="http://127.0.0.1:1", source=Source.API, is_disabled=True
    )
    check_instances()
    row.refresh_from_db()
    assert row.is_healthy is healthy
    assert row.checks.get().ok is healthy
    assert not disabled.checks.exists()


def test_one_that_does_not_answer_says_so(transactional_db):
    row = ServiceInstance.objects.create(kind=ServiceKind.RUNNER, base_url="http://127.0.0.1:1", source=Source.SETTINGS)
    check_instances()
    row.refresh_from_db()
    assert (row.reason, row.public_reason) == ("does not answer the health check with 200 in time", "no_answer")


def test_what_was_registered_is_not_called_where_it_may_not_be(server, settings, transactional_db):
    """Its name may lead elsewhere by now than when it was registered."""
    settings.SERVICE_PRIVATE_ADDRESSES = False
    server.says({"status": "ok"})
    rows = [
        ServiceInstance.objects.create(kind=kind, base_url=server.url, source=source)
        for kind, source in ((ServiceKind.RUNNER, Source.API), (ServiceKind.ARCHIVE, Source.SETTINGS))
    ]
    check_instances()
    for row in rows:
        row.refresh_from_db()
    assert [row.is_healthy for row in rows] == [False, True]
    assert len(server.requests) == 1


def test_checks_are_kept_for_a_day(runner):
    for _ in range(3):
        checked(runner.id, OK)
    old = ServiceCheck.objects.first()
    ServiceCheck.objects.filter(id=old.id).update(at=timezone.now() - timedelta(days=1, seconds=1))
    delete_old_checks()
    assert ServiceCheck.objects.count() == 2


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"is_healthy": True}, "healthy"),
        ({"is_healthy": None}, "unhealthy"),
        ({"is_healthy": True, "is_draining": True}, "draining"),
        ({"is_healthy": True, "is_draining": True, "is_disabled": True}, "disabled"),
        ({"is_healthy": True, "time_to_live": 5, "heartbeat_at": timezone.now() - timedelta(hours=1)}, "unhealthy"),
    ],
)
def test_the_state_is_told_in_one_word(fields, state):
    assert ServiceInstance(**fields).state == state


def test_a_dialect_is_asked_where_it_answers(server, transactional_db):
    server.says({"status": "ok"})
    row = ServiceInstance.objects.create(
        kind=ServiceKind.RUNNER, base_url=server.url, source=Source.SETTINGS, dialect="b"
    )
    check_instances()
    row.refresh_from_db()
    assert row.is_healthy
    assert server.requests[0][:2] == ("GET", "/api/v1/health")


def runners(*urls, **fields):
    fields = {"kind": ServiceKind.RUNNER, "source": Source.API, **fields}
    return [ServiceInstance.objects.create(base_url=url, **fields) for url in urls]


def test_who_has_left_or_is_silent_is_not_asked(server, transactional_db):
    server.says({"status": "ok"})
    now = timezone.now()
    runners(f"{server.url}/left", left_at=now)
    runners(f"{server.url}/silent", time_to_live=15, heartbeat_at=now - timedelta(seconds=16))
    runners(f"{server.url}/there", time_to_live=3600, heartbeat_at=now)
    check_instances()
    assert [path for _method, path, *_rest in server.requests] == ["/there/health"]


def test_one_that_fails_does_not_keep_the_others_from_being_checked(server, transactional_db, monkeypatch):
    server.says({"status": "ok"})
    odd, broken, good = runners(*(f"{server.url}/{name}" for name in ("odd", "broken", "good")))
    ServiceInstance.objects.filter(pk=odd.pk).update(dialect="of a later release")
    real = health.checked

    def fails_for_one(instance_id, look):
        if instance_id == broken.pk:
            raise ValueError
        real(instance_id, look)

    monkeypatch.setattr(health, "checked", fails_for_one)
    check_instances()
    assert [row.checks.count() for row in (odd, broken, good)] == [1, 0, 1]
    odd.refresh_from_db()
    assert (odd.is_healthy, odd.health_reason, odd.public_reason) == (False, "cannot be checked", "not_checked")


def test_a_round_ends_and_the_next_begins_with_those_that_were_left_out(server, transactional_db, monkeypatch):
    server.says({"status": "ok"})
    first, _second = runners(f"{server.url}/first", f"{server.url}/second")
    ServiceInstance.objects.filter(pk=first.pk).update(checked_at=timezone.now())
    monkeypatch.setattr(health, "ROUND_SECONDS", -1)
    check_instances()
    assert server.requests == []
    monkeypatch.setattr(health, "ROUND_SECONDS", 60)
    monkeypatch.setattr(health, "_WORKERS", 1)
    check_instances()
    assert [path for _method, path, *_rest in server.requests] == ["/second/health", "/first/health"]


def test_one_that_drains_does_not_make_the_gateway_ready(runner):
    """It gets no new work, so commands would wait."""
    looks(runner, OK)
    is_ready = health._check(ServiceKind.RUNNER)
    health.remember_summary(ServiceKind.RUNNER)
    is_ready()
    ServiceInstance.objects.update(is_draining=True)
    health.remember_summary(ServiceKind.RUNNER)
    with pytest.raises(NotReadyError):
        is_ready()


def test_there_is_one_round_at_a_time(server, transactional_db):
    server.says({"status": "ok"})
    runners(server.url)
    with alone("check-services", lasts=60) as entered:
        assert entered
        check_services()
    assert server.requests == []
    check_services()
    assert len(server.requests) == 1


def test_every_change_of_state_is_told_once(runner, django_capture_on_commit_callbacks):
    told = []

    def hear(event, **_kwargs):
        told.append((event.service_id, event.state, event.reason))

    def after(act):
        told.clear()
        with django_capture_on_commit_callbacks(execute=True):
            act()
        return [(state, reason) for service_id, state, reason in told if service_id == runner.id]

    service_changed.connect(hear)
    try:
        assert after(lambda: looks(runner, OK)) == [("healthy", "")]
        assert after(lambda: looks(runner, OK, BAD)) == []
        assert after(lambda: looks(runner, BAD, BAD)) == [("unhealthy", "says 'DOWN'")]
        assert after(lambda: looks(runner, OK, OK)) == [("healthy", "")]
        ServiceInstance.objects.update(time_to_live=60, heartbeat_at=timezone.now() - timedelta(seconds=61))
        assert after(check_instances) == [("unhealthy", "sends no heartbeat")]
        assert after(check_instances) == []
    finally:
        service_changed.disconnect(hear)
