"""How instances fall ill and are well again, and what is kept of it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from integrations import health
from integrations.health import Look, call_failed, check_instances, checked
from integrations.models import ServiceCheck, ServiceInstance, ServiceKind, ServiceState, Source
from integrations.tasks import delete_old_checks

pytestmark = pytest.mark.django_db

OK, BAD = Look(ok=True, reason="", latency_ms=3), Look(ok=False, reason="says 'DOWN'", latency_ms=4)


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch):
    monkeypatch.setattr(health, "JITTER_SECONDS", 0)


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
    assert (runner.is_healthy, runner.health_reason) == (False, "timeout")
    assert ServiceCheck.objects.count() == 1
    call_failed(ServiceKind.RUNNER, "http://nobody", "timeout")


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
    assert row.health_reason == "does not answer the health check with 200 in time"


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
