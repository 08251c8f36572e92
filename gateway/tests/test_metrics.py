"""The page for Prometheus: for whom it is, and that it tells the truth of the whole fleet or nothing."""

import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from django_redis import get_redis_connection
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from accounts.models import Role
from accounts.tests.people import client_with_key, person, person_with
from commands import metrics as commands_metrics
from commands.models import Command, RetentionRule
from commands.states import Status
from gateway import metrics
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of
from integrations import fleet
from integrations.alarms.models import Alarm
from integrations.clients import breaker
from integrations.clients.breaker import protected, reset
from integrations.clients.errors import Reason, TransientError
from integrations.models import ServiceInstance

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

READ = "accounts.read_metrics"
RUNNER = {"kind": "runner", "base_url": "http://runner"}
OPEN = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
ACCEPTS = [OPEN, "text/plain;version=1.0.0", "application/json", "text/plain;version=one", ""]


@pytest.fixture
def scraper():
    """A client with the API key of somebody who may read metrics and nothing else."""
    return client_with_key(person("prometheus", READ), READ)


@pytest.fixture
def no_redis(monkeypatch):
    nobody_listens = Redis(port=1, retry=None)
    monkeypatch.setattr(fleet, "get_redis_connection", lambda _alias: nobody_listens)


def families(client) -> dict[str, Metric]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(answer.content.decode())}


def values(client, name, **labels):
    """Return the values of a series by their other labels: as one, if there is one other label."""
    found = {}
    for sample in families(client)[name].samples:
        if labels.items() <= sample.labels.items():
            rest = tuple(value for label, value in sample.labels.items() if label not in labels)
            found[rest[0] if len(rest) == 1 else rest] = sample.value
    return found


def runner(number: int = 0, **fields) -> ServiceInstance:
    base_url = f"http://runner{number or ''}"
    return ServiceInstance.objects.create(kind="runner", base_url=base_url, source="admin", **fields)


def time_out(method="POST"):
    for _ in range(breaker.FAILURES):
        with pytest.raises(TransientError), protected(RUNNER["base_url"], method):
            raise TransientError(Reason.TIMEOUT, no_answer=True)


def test_it_is_for_those_who_may_read_it(api, alice, bob, admin, scraper):
    assert scraper.get("/metrics").status_code == 200
    assert api(admin).get("/metrics").status_code == 200
    problem_of(api(None).get("/metrics"), ErrorCode.NOT_AUTHENTICATED)
    roles = [person_with(f"a-{role}", role) for role in (Role.VIEWER, Role.OPERATOR, Role.SERVICE)]
    other_scope = client_with_key(person("reader", READ, "integrations.view_alarm"), "integrations.view_alarm")
    lost_it = client_with_key(person("lost-it", "integrations.view_alarm"), READ)
    for client in (other_scope, lost_it, *map(api, (alice, bob, *roles))):
        body = client.get("/metrics").json()
        assert (body["status"], body["code"], body["permission"]) == (403, ErrorCode.PERMISSION_DENIED, READ)
    assert api(person_with("an-admin", Role.ADMIN)).get("/metrics").status_code == 200


@pytest.mark.parametrize("accept", ACCEPTS)
def test_it_speaks_what_prometheus_asks_for(scraper, accept):
    answer = scraper.get("/metrics", HTTP_ACCEPT=accept)
    assert answer.status_code == 200
    is_open = "openmetrics" in accept
    assert answer["Content-Type"].startswith("application/openmetrics-text" if is_open else "text/plain")
    found = list((open_metrics if is_open else text_string_to_metric_families)(answer.content.decode()))
    assert {"gateway_service_instances", "gateway_commands", "gateway_alarms_firing"} <= {each.name for each in found}


def test_it_says_how_services_commands_and_alarms_are(scraper, alice, settings):
    runner(is_healthy=True)
    runner(1, is_healthy=True, time_to_live=15, heartbeat_at=timezone.now() - timedelta(minutes=1))
    runner(2, is_healthy=True, is_disabled=True)
    runner(3, left_at=timezone.now())
    assert values(scraper, "gateway_service_instances", kind="runner") == {
        "healthy": 1, "unhealthy": 1, "draining": 0, "disabled": 1,
    }  # fmt: skip
    assert values(scraper, "gateway_service_instances", kind="archive", state="healthy") == {(): 0}
    assert values(scraper, "gateway_service_instance_healthy", kind="runner") == {
        "http://runner": 1,
        "http://runner1": 0,
    }

    now = timezone.now()
    due = {"user": alice, "due_at": now}
    Command.objects.create(**due)
    Command.objects.create(**due, status=Status.RUNNING, stage="runner")
    Command.objects.create(**due, status=Status.RUNNING, stage="runner", lease_expires_at=now + timedelta(hours=1))
    Command.objects.create(user=alice, status=Status.COMPLETED, stage="runner", finished_at=now)
    assert values(scraper, "gateway_commands") == {
        "queued": 1, "segmenting": 0, "running": 2, "archiving": 0, "cancelling": 0,
    }  # fmt: skip
    assert values(scraper, "gateway_commands_waiting") == {"segmentation": 1, "runner": 1, "archive": 0}

    Alarm.objects.create(condition="service_down", severity="critical", since=now, state="firing", fired_at=now)
    Alarm.objects.create(condition="service_down", severity="critical", since=now)
    assert values(scraper, "gateway_alarms_firing") == {"info": 0, "warning": 0, "critical": 1}
    assert values(scraper, "gateway_build_info") == {settings.VERSION: 1}


def test_it_says_which_breaker_is_open_and_how_many_calls_there_are(scraper):
    runner()
    closed, opened, half_open = (
        {state: state == so for state in breaker.BreakerState} for so in ("closed", "open", "half_open")
    )
    name, openings = "gateway_service_breaker_state", "gateway_service_breaker_openings"
    assert values(scraper, name, **RUNNER, method="POST") == closed
    time_out()
    assert values(scraper, name, **RUNNER, method="POST") == opened
    assert values(scraper, name, **RUNNER, method="GET") == closed
    assert values(scraper, openings, **RUNNER) == {"POST": 1, "GET": 0}
    get_redis_connection("default").hset("service-breaker:POST http://runner", "opened_at", 1)
    assert values(scraper, name, **RUNNER, method="POST") == half_open
    with protected(RUNNER["base_url"], "GET"):
        assert values(scraper, "gateway_service_calls_in_flight", **RUNNER) == {(): 1}
    assert values(scraper, "gateway_service_calls_in_flight", **RUNNER) == {(): 0}
    assert reset(RUNNER["base_url"])
    assert values(scraper, name, **RUNNER, method="POST") == closed
    assert values(scraper, "gateway_redis_up") == {(): 1}


def test_without_redis_it_says_so_and_nothing_of_breakers(scraper, no_redis):
    runner()
    time_out()  # this process has a breaker of its own now, which is open
    found = families(scraper)
    assert [sample.value for sample in found["gateway_redis_up"].samples] == [0]
    assert [name for name in found if "breaker" in name or "in_flight" in name] == []
    assert "gateway_service_instance_healthy" in found


def test_a_collector_that_fails_is_named_and_hides_no_other(scraper, monkeypatch, caplog):
    def fails() -> Iterator[Metric]:
        yield metrics.gauge("gateway_half_of_it", "?")
        raise RuntimeError

    monkeypatch.setitem(metrics._collectors, "services", fails)
    with caplog.at_level(logging.ERROR, "gateway.metrics"):
        found = families(scraper)
    assert "services" in caplog.text
    assert found.keys().isdisjoint({"gateway_half_of_it", "gateway_service_instances"})
    assert {"gateway_commands", "gateway_redis_up", "gateway_alarms_firing"} <= found.keys()
    success = {sample.labels["collector"]: sample.value for sample in found["gateway_collector_success"].samples}
    assert success == {"services": 0, "breakers": 1, "alarms": 1, "commands": 1, "retention": 1}


def test_every_series_is_explained(scraper, settings):
    runner()
    RetentionRule.objects.update(done_at=timezone.now())
    names = {sample.name for family in families(scraper).values() for sample in family.samples}
    guide = (Path(settings.BASE_DIR) / "docs/deployment.md").read_text()
    assert set(re.findall(r"^\| `(gateway_\w+)` ", guide, re.MULTILINE)) == names


def test_its_price_does_not_grow(alice, django_assert_num_queries):
    for count in (0, 20):
        for number in range(count):
            runner(number)
            Command.objects.create(user=alice, due_at=timezone.now())
        with django_assert_num_queries(6):
            page = generate_latest(metrics._registry).decode()
        assert f'gateway_commands{{status="queued"}} {count}.0' in page
        assert page.count("gateway_service_instance_healthy{") == count


def test_it_counts_no_further_than_it_may(scraper, alice, monkeypatch):
    monkeypatch.setattr(commands_metrics, "COUNTED", 2)
    for _ in range(3):
        Command.objects.create(user=alice, due_at=timezone.now())
    assert values(scraper, "gateway_commands", status="queued") == {(): 2}
    assert values(scraper, "gateway_commands_waiting", stage="segmentation") == {(): 2}
