"""The registry as service owners and administrators use it."""

from datetime import timedelta
from unittest.mock import Mock

import pytest
from django.core.cache import cache
from django.utils import timezone
from redis.exceptions import TimeoutError as RedisTimeoutError

from accounts.models import AuditEntry
from accounts.tests.people import client_with_key, person_with
from gateway.api.errors import ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import fields_of, problem_of
from integrations import fleet, services
from integrations.clients import breaker
from integrations.clients.errors import Reason, TransientError
from integrations.health import Look, checked
from integrations.models import ServiceCheck, ServiceInstance
from integrations.registry import ServiceKind, choose
from integrations.tests.registering import ONE, SCOPES, SERVICES, path_of, registered

pytestmark = pytest.mark.django_db


def test_a_service_registers_itself_with_an_api_key(machine, owner):
    answer = machine.post(SERVICES, {**ONE, "base_url": "HTTP://127.0.0.1:9102/"})
    row = answer.json()
    assert (answer.status_code, answer["Location"]) == (201, path_of(row))
    assert {name: row[name] for name in ONE} == ONE
    assert (row["source"], row["state"], row["time_to_live"]) == ("api", "unhealthy", 60)
    assert row["last_checks"] == []
    assert row["latency"] == {"p50_ms": None, "p95_ms": None}
    entry = AuditEntry.objects.get(action="service_registered")
    assert (entry.actor_id, entry.target_id) == (owner.id, row["id"])


def test_it_says_how_it_speaks(machine, settings, tmp_path):
    settings.SERVICE_SHARED_DIRS = settings.SERVICE_SHARED_DIRS | {"runner": str(tmp_path)}
    assert registered(machine)["dialect"] == "standard"
    assert registered(machine, base_url="http://127.0.0.1:9103", dialect="b")["dialect"] == "b"


def test_after_a_restart_it_registers_anew_and_is_the_same(machine):
    row = registered(machine)
    machine.post(path_of(row, "/drain"))
    answer = machine.post(SERVICES, {**ONE, "version": "2.2"})
    assert answer.status_code == 200
    again = answer.json()
    assert (again["id"], again["version"], again["is_draining"]) == (row["id"], "2.2", False)
    assert ServiceInstance.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"kind": "kitchen"}, {"kind": "invalid_choice"}),
        ({"kind": None}, {"kind": "null"}),
        ({"base_url": "file:///etc/passwd"}, {"base_url": "invalid"}),
        ({"base_url": "http://169.254.169.254"}, {"base_url": "invalid"}),
        ({"base_url": "http://" + "x" * 300}, {"base_url": "max_length"}),
        ({"base_url": 7}, {"base_url": "invalid"}),
        ({"dialect": "klingon"}, {"dialect": "invalid_choice"}),
        ({"dialect": "b"}, {"dialect": "not_set_up"}),
        ({"dialect": None}, {"dialect": "null"}),
        ({"weight": 0}, {"weight": "min_value"}),
        ({"weight": 101}, {"weight": "max_value"}),
        ({"weight": "3"}, {"weight": "invalid"}),
        ({"weight": True}, {"weight": "invalid"}),
        ({"tags": "gpu"}, {"tags": "not_a_list"}),
        ({"tags": ["x" * 51]}, {"tags.0": "max_length"}),
        ({"tags": ["x"] * 21}, {"tags": "max_length"}),
        ({"version": "x" * 51}, {"version": "max_length"}),
        ({"version": "\0"}, {"version": "null_characters_not_allowed"}),
        ({"time_to_live": 14}, {"time_to_live": "min_value"}),
        ({"time_to_live": 3601}, {"time_to_live": "max_value"}),
        ({"source": "settings"}, {"source": "unknown_field"}),
        ({"is_healthy": True}, {"is_healthy": "unknown_field"}),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_bad_input_names_the_field_and_registers_nothing(machine, change, fields):
    assert fields_of(machine.post(SERVICES, {**ONE, **change})) == fields
    assert not ServiceInstance.objects.exists()


def test_without_heartbeats_it_leaves_by_itself_and_comes_back_with_one_to_be_checked_anew(machine):
    def is_found_healthy():
        checked(ServiceInstance.objects.get().id, Look(ok=True, reason="", latency_ms=1))
        assert machine.get(path_of(row)).json()["state"] == "healthy"

    def falls_silent():
        ServiceInstance.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=61))

    row = registered(machine)
    is_found_healthy()
    assert choose(ServiceKind.RUNNER).base_url == ONE["base_url"]
    falls_silent()
    silent = machine.get(path_of(row)).json()
    assert (silent["state"], silent["reason"]) == ("unhealthy", "sends no heartbeat")
    with pytest.raises(TransientError):
        choose(ServiceKind.RUNNER)
    answer = machine.post(path_of(row, "/heartbeat"))
    assert (answer.status_code, answer.content) == (204, b"")
    again = machine.get(path_of(row)).json()
    assert (again["state"], again["reason"], again["since"]) == ("unhealthy", "was not checked yet", None)
    is_found_healthy()
    machine.post(path_of(row, "/heartbeat"))  # in time
    assert registered(machine)["state"] == "healthy"
    falls_silent()
    assert registered(machine)["reason"] == "was not checked yet"


def test_drained_it_gets_no_new_work(machine):
    row = registered(machine)
    assert machine.post(path_of(row, "/drain")).json()["state"] == "draining"
    assert AuditEntry.objects.get(action="service_changed").changes == {"is_draining": [False, True]}


@pytest.mark.parametrize(("method", "tail"), [("delete", ""), ("post", "/heartbeat"), ("post", "/drain")])
def test_nobody_steers_the_instance_of_another_but_administrators(machine, api, admin, method, tail):
    row = registered(machine)
    other = client_with_key(person_with("other", "service"), *SCOPES)
    answer = getattr(other, method)(path_of(row, tail))
    assert (answer.status_code, answer.json()["permission"]) == (403, "integrations.change_serviceinstance")
    assert getattr(api(admin), method)(path_of(row, tail)).status_code in (200, 204)


@pytest.mark.parametrize(
    ("method", "tail"),
    [("get", ""), ("patch", ""), ("delete", ""), ("post", "/heartbeat"), ("post", "/drain"), ("get", "/checks")],
)
def test_others_have_no_business_here_and_what_is_not_there_is_not_found(api, alice, admin, method, tail):
    path = f"{SERVICES}/{new_id()}{tail}"
    assert getattr(api(None), method)(path).status_code == 401
    assert getattr(api(alice), method)(path).status_code == 403
    problem_of(getattr(api(admin), method)(path), ErrorCode.NOT_FOUND)


def test_an_administrator_changes_it_with_a_reason(machine, api, admin):
    row, client = registered(machine), api(admin)
    etag = client.get(path_of(row))["ETag"]
    checked(ServiceInstance.objects.get().id, Look(ok=True, reason="", latency_ms=1))  # which changes no setting
    change = {"weight": 10, "is_disabled": True, "reason": "too slow"}
    answer = client.patch(path_of(row), change, HTTP_IF_MATCH=etag)
    assert (answer.status_code, answer.json()["state"], answer.json()["weight"]) == (200, "disabled", 10)
    assert AuditEntry.objects.get(action="service_changed").reason == "too slow"
    problem_of(client.patch(path_of(row), {"weight": 1}, HTTP_IF_MATCH=etag), ErrorCode.PRECONDITION_FAILED)
    assert client.patch(path_of(row), {"weight": 1}, HTTP_IF_MATCH=answer["ETag"]).status_code == 200
    assert fields_of(client.patch(path_of(row), {"base_url": "http://other"})) == {"base_url": "unknown_field"}
    answer = machine.patch(path_of(row), {"weight": 1})
    assert (answer.status_code, answer.json()["permission"]) == (403, "integrations.change_serviceinstance")


def test_what_changes_by_itself_is_sent_again(machine):
    row = registered(machine)
    etag = machine.get(path_of(row))["ETag"]
    assert machine.get(path_of(row), HTTP_IF_NONE_MATCH=etag).status_code == 304
    checked(ServiceInstance.objects.get().id, Look(ok=True, reason="", latency_ms=1))
    assert machine.get(path_of(row), HTTP_IF_NONE_MATCH=etag).status_code == 200


def test_checks_are_listed_and_summed_up(machine, admin_client):
    row = registered(machine)
    for latency in range(1, 21):
        checked(ServiceInstance.objects.get().id, Look(ok=True, reason="", latency_ms=latency))
    checked(ServiceInstance.objects.get().id, Look(ok=False, reason="says 'DOWN'", latency_ms=99))
    body = machine.get(path_of(row)).json()
    assert body["latency"] == {"p50_ms": 11, "p95_ms": 20}
    assert [check["reason"] for check in body["last_checks"]] == ["says 'DOWN'", "", "", "", ""]
    page = machine.get(path_of(row, "/checks"), {"limit": 2}).json()
    assert [check["latency_ms"] for check in page["results"]] == [99, 20]
    assert machine.get(page["next"]).json()["results"][0]["latency_ms"] == 19
    shown = admin_client.get(f"/admin/integrations/serviceinstance/{row['id']}/change/").content.decode()
    assert "half within 11 ms, 95 % within 20 ms" in shown


def test_a_breaker_is_seen_and_reset_with_a_reason(machine, owner, admin_client):
    row = registered(machine)
    assert row["breaker"] == "closed"
    for _ in range(breaker.FAILURES):
        with pytest.raises(TransientError), breaker.protected(ONE["base_url"], "POST"):
            raise TransientError(Reason.TIMEOUT, no_answer=True)
    assert machine.get(path_of(row)).json()["breaker"] == "open"
    page = "/admin/integrations/serviceinstance/"
    assert "calls failed several times" in admin_client.get(f"{page}{row['id']}/change/").content.decode()
    act = {"action": "reset_breakers", "_selected_action": [row["id"]], "confirmed": "yes", "reason": "restarted"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "ask", lambda _question, otherwise: otherwise)
        answer = admin_client.post(page, act, follow=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services.audit, "record", Mock(side_effect=RuntimeError("no")))
        with pytest.raises(RuntimeError):  # what cannot be written down is not done
            services.breaker_reset(actor=owner, instance=ServiceInstance.objects.get(), reason="restarted")
    ServiceInstance.objects.update(is_healthy=False, illness="calls_fail")
    assert "Redis is away" in answer.content.decode()
    assert not AuditEntry.objects.filter(action="breaker_reset").exists()  # nobody else would have heard of it
    assert machine.get(path_of(row)).json()["breaker"] == "open"
    admin_client.post(page, act)
    assert machine.get(path_of(row)).json()["breaker"] == "closed"
    assert AuditEntry.objects.get(action="breaker_reset").reason == "restarted"
    assert ServiceInstance.objects.get().is_healthy is None  # the next check decides


def test_the_list_is_filtered_by_kind_at_a_constant_price(machine, django_assert_num_queries):
    for number in range(3):
        registered(machine, base_url=f"http://127.0.0.1:{9000 + number}")
    registered(machine, kind="archive")
    for number in range(7):
        ServiceCheck.objects.bulk_create(
            ServiceCheck(instance=row, ok=True, latency_ms=number) for row in ServiceInstance.objects.all()
        )
    machine.get(SERVICES)
    with django_assert_num_queries(3):
        rows = machine.get(SERVICES, {"kind": "runner"}).json()["results"]
    for row in rows:
        assert [check["latency_ms"] for check in row["last_checks"]] == [6, 5, 4, 3, 2]
        assert row["latency"] == {"p50_ms": 3, "p95_ms": 6}
    assert [row["base_url"][-4:] for row in rows] == ["9002", "9001", "9000"]
    assert fields_of(machine.get(SERVICES, {"kind": "x"})) == {"kind": "invalid_choice"}


def test_strangers_learn_how_services_are_and_not_where_nor_what_they_say(client, machine):
    row = registered(machine)
    assert client.get("/health/services/runner").json()["instances"][0]["reason"] == "not_checked"
    for look in (Look(ok=False, reason="says 'secret'", latency_ms=1),) * 2:
        checked(ServiceInstance.objects.get().id, look)
    assert machine.get(path_of(row)).json()["reason"] == "says 'secret'"
    assert client.get("/health/services/runner").json()["instances"][0]["reason"] == "not_checked"  # kept for a moment
    cache.clear()
    assert client.get("/health/services/runner").json()["instances"][0]["reason"] == "says_so"
    for look in (Look(ok=True, reason="", latency_ms=7),) * 2:
        checked(ServiceInstance.objects.get().id, look)
    cache.clear()
    answer = client.get("/health/services")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "unavailable")
    assert body["services"]["archive"] == {"status": "unavailable", "healthy": 0, "total": 0, "instances": []}
    runner = client.get("/health/services/runner").json()
    assert runner == body["services"]["runner"]
    assert (runner["status"], runner["healthy"], runner["total"]) == ("ok", 1, 1)
    assert runner["instances"][0]["latency_ms"] == {"p50": 7, "p95": 7}
    assert "9102" not in answer.content.decode()
    problem_of(client.get("/health/services/kitchen"), ErrorCode.NOT_FOUND)


def test_who_has_left_is_silent_or_disabled_is_not_counted(client, machine):
    ServiceInstance.objects.create(kind="runner", base_url="http://off", source="settings", is_disabled=True)
    registered(machine)
    ServiceInstance.objects.update(is_healthy=True)
    runner = client.get("/health/services/runner").json()
    assert (runner["status"], runner["total"], len(runner["instances"])) == ("ok", 1, 1)
    cache.clear()
    ServiceInstance.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    assert client.get("/health/services/runner").json()["total"] == 0
    ServiceInstance.objects.update(heartbeat_at=timezone.now(), left_at=timezone.now())
    cache.clear()
    assert client.get("/health/services/runner").json()["total"] == 0


def test_a_redis_that_hangs_is_asked_once_in_a_while_and_not_for_each_answer(client, machine, monkeypatch):
    """Each question would wait for seconds; and anybody may ask."""
    registered(machine)
    before = client.get("/health/services").content
    assert client.get("/health/services").content == before
    tries = []

    def hangs(_alias):
        tries.append(1)
        raise RedisTimeoutError

    monkeypatch.setattr(fleet, "get_redis_connection", hangs)
    for _ in range(3):
        assert client.get("/health/services").content == before
    assert len(tries) == 1
