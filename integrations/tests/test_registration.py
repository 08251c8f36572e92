"""Who may say what of an instance: its owner, an administrator, the settings. And how it leaves and comes back."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.http import Http404
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.people import client_with_key, person_with
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of
from integrations import services
from integrations.health import Look, checked
from integrations.models import ServiceCheck, ServiceInstance, Source
from integrations.registry import ServiceKind, choose
from integrations.services import Described, instance_register
from integrations.tasks import delete_left_services
from integrations.tests.registering import ONE, SCOPES, SERVICES, path_of, registered

pytestmark = pytest.mark.django_db

PAGE = "/admin/integrations/serviceinstance/"
CHANGE = "integrations.change_serviceinstance"
LONG_AGO = timedelta(days=2)


def an_administrator(api, admin, row, **changes):
    answer = api(admin).patch(path_of(row), changes)
    assert answer.status_code == 200, answer.content


def other_machine():
    return client_with_key(person_with("other", "service"), *SCOPES)


def audited(action):
    return AuditEntry.objects.filter(action=action).order_by("-id").first()


def test_what_an_administrator_disabled_stays_so_whatever_its_owner_does(machine, api, admin):
    row = registered(machine)
    an_administrator(api, admin, row, is_disabled=True)
    assert machine.delete(path_of(row)).status_code == 204
    ServiceInstance.objects.update(left_at=timezone.now() - LONG_AGO)
    delete_left_services()
    for spelling in ("", "/", ":9102"):
        url = "http://127.1:9102" if spelling == ":9102" else ONE["base_url"] + spelling
        again = registered(machine, base_url=url)
        assert (again["id"], again["state"], again["base_url"]) == (row["id"], "disabled", ONE["base_url"])
    an_administrator(api, admin, row, is_disabled=False)
    assert machine.get(path_of(row)).json()["state"] == "unhealthy"


def test_of_one_that_the_settings_name_only_the_version_is_heard_and_nobody_owns_it(machine, api, admin):
    ServiceInstance.objects.create(kind="runner", base_url=ONE["base_url"], source="settings")
    row = registered(machine, dialect="standard", time_to_live=15)
    assert (row["version"], row["source"], row["weight"], row["tags"]) == ("2.1", "settings", 1, [])
    assert (row["time_to_live"], row["heartbeat_at"]) == (None, None)
    for method, tail in (("delete", ""), ("post", "/heartbeat"), ("post", "/drain")):
        assert getattr(machine, method)(path_of(row, tail)).json()["permission"] == CHANGE
    client = api(admin)
    problem_of(client.delete(path_of(row)), ErrorCode.SERVICE_OF_SETTINGS)
    assert client.post(path_of(row, "/drain")).json()["state"] == "draining"
    assert registered(machine)["state"] == "draining"


def test_what_an_administrator_set_no_registration_changes(machine, api, admin):
    row = registered(machine)
    an_administrator(api, admin, row, weight=3, is_draining=True, reason="too slow")  # 3 is what it says itself, now
    again = registered(machine, weight=50, tags=["new"], version="2.2")
    assert (again["weight"], again["tags"], again["version"], again["state"]) == (3, ["new"], "2.2", "draining")
    assert audited("service_changed").changes == {"tags": [["gpu"], ["new"]], "version": ["2.1", "2.2"]}
    machine.delete(path_of(row))
    assert registered(machine, weight=50)["weight"] == 3


def test_a_drain_of_its_owner_ends_when_it_registers_anew_and_both_are_audited(machine, api, admin):
    row = registered(machine)
    an_administrator(api, admin, row, is_draining=True)
    an_administrator(api, admin, row, is_draining=False)
    assert machine.post(path_of(row, "/drain")).json()["state"] == "draining"
    assert audited("service_changed").changes == {"is_draining": [False, True]}
    assert registered(machine)["is_draining"] is False
    assert audited("service_changed").changes == {"is_draining": [True, False]}


def test_another_user_gets_it_only_when_it_has_left(machine, owner):
    row, other = registered(machine), other_machine()
    problem_of(other.post(SERVICES, ONE), ErrorCode.SERVICE_EXISTS)
    owner.delete()  # nobody's: but it may still be at work
    problem_of(other.post(SERVICES, ONE), ErrorCode.SERVICE_EXISTS)
    ServiceInstance.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    assert registered(other)["id"] == row["id"]
    other.delete(path_of(row))
    assert registered(client_with_key(person_with("third", "service"), *SCOPES))["id"] == row["id"]
    assert other.delete(path_of(row)).json()["permission"] == CHANGE


def test_one_that_was_taken_out_is_asked_after_what_it_has_and_comes_back(machine):
    row = registered(machine)
    checked(ServiceInstance.objects.get().id, Look(ok=True, reason="", latency_ms=1))
    assert machine.delete(path_of(row)).status_code == 204
    assert machine.get(SERVICES).json()["results"] == []
    for method, tail in (("get", ""), ("get", "/checks"), ("delete", ""), ("post", "/heartbeat"), ("post", "/drain")):
        problem_of(getattr(machine, method)(path_of(row, tail)), ErrorCode.NOT_FOUND)
    assert choose(ServiceKind.RUNNER, prefer=ONE["base_url"]).takes_work is False
    answer = machine.post(SERVICES, ONE)
    again = answer.json()
    assert (answer.status_code, again["id"], again["reason"]) == (201, row["id"], "was not checked yet")


def test_who_is_silent_for_a_day_leaves_and_what_has_left_is_deleted_in_the_end(machine):
    row = registered(machine)
    silent = timezone.now() - timedelta(days=1, seconds=1)
    ServiceInstance.objects.update(heartbeat_at=silent)
    for url, source in (("http://settings", "settings"), ("http://admin", "admin")):  # without a time to live
        ServiceInstance.objects.create(kind="runner", base_url=url, source=source, heartbeat_at=silent)
    delete_left_services()
    left = ServiceInstance.objects.get(left_at__isnull=False)
    assert str(left.id) == row["id"]
    delete_left_services()
    left.left_at -= LONG_AGO
    left.save()
    delete_left_services()
    assert not ServiceInstance.objects.filter(pk=left.pk).exists()
    assert ServiceInstance.objects.count() == 2


def test_nobody_has_too_many_and_the_silent_make_room(machine, monkeypatch):
    monkeypatch.setattr(services, "MAX_INSTANCES", 2)
    rows = [registered(machine, base_url=f"http://127.0.0.1:{port}") for port in (1, 2)]
    problem_of(machine.post(SERVICES, ONE), ErrorCode.TOO_MANY_SERVICES)
    assert ServiceInstance.objects.count() == 2
    assert registered(machine, base_url="http://127.0.0.1:1")["id"] == rows[0]["id"]
    ServiceInstance.objects.filter(id=rows[0]["id"]).update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    registered(machine)
    problem_of(machine.get(path_of(rows[0])), ErrorCode.NOT_FOUND)


def test_whoever_left_first_is_forgotten_first_but_not_what_an_administrator_disabled(machine, monkeypatch):
    """A service whose copies have a new address each must not be locked out by those that left."""
    monkeypatch.setattr(services, "MAX_KEPT", 3)

    def comes_and_goes(port):
        row = registered(machine, base_url=f"http://127.0.0.1:{port}")
        assert machine.delete(path_of(row)).status_code == 204

    def known():
        return sorted(int(row.base_url[-1]) for row in ServiceInstance.objects.all())

    comes_and_goes(1)
    ServiceInstance.objects.update(is_disabled=True)
    for port in (3, 2, 4, 5):
        comes_and_goes(port)
    assert known() == [1, 4, 5]
    ServiceInstance.objects.update(is_disabled=True)
    problem_of(machine.post(SERVICES, {**ONE, "base_url": "http://127.0.0.1:6"}), ErrorCode.TOO_MANY_SERVICES)
    assert known() == [1, 4, 5]


@pytest.mark.parametrize("seconds", [14, 3601])
def test_no_way_leads_to_a_time_to_live_out_of_bounds(seconds):
    with pytest.raises(IntegrityError):
        ServiceInstance.objects.create(kind="runner", base_url="http://x", source="api", time_to_live=seconds)


def test_a_request_that_is_sent_again_is_a_heartbeat(machine):
    for _ in range(2):
        answer = machine.post(SERVICES, ONE, HTTP_IDEMPOTENCY_KEY="start 1")
        assert answer.status_code == 201
        row = ServiceInstance.objects.get()
        assert (row.has_gone(), row.is_healthy) == (False, None)
        ServiceInstance.objects.update(is_healthy=True)
        ServiceInstance.objects.update(heartbeat_at=timezone.now() - LONG_AGO)


def test_what_is_sent_again_when_it_has_left_registers_it_anew(machine):
    """The answer of then would say that it is there."""
    first = machine.post(SERVICES, ONE, HTTP_IDEMPOTENCY_KEY="start 1").json()
    machine.delete(path_of(first))
    answer = machine.post(SERVICES, ONE, HTTP_IDEMPOTENCY_KEY="start 1")
    assert (answer.status_code, answer.json()["id"]) == (201, first["id"])
    assert machine.get(path_of(first)).status_code == 200
    machine.delete(path_of(first))
    registered(other_machine())
    problem_of(machine.post(SERVICES, ONE, HTTP_IDEMPOTENCY_KEY="start 1"), ErrorCode.SERVICE_EXISTS)


def test_one_that_is_deleted_while_it_registers_is_new(owner, monkeypatch):
    manager, real = type(ServiceInstance.objects), ServiceInstance.objects.get_or_create
    said = {"actor": owner, "kind": "runner", "base_url": ONE["base_url"], "described": Described()}
    first, _is_new = instance_register(**said)
    ServiceInstance.objects.update(left_at=timezone.now())

    def and_then_it_is_deleted(_self, **values):
        monkeypatch.undo()
        found = real(**values)
        ServiceInstance.objects.all().delete()
        return found

    monkeypatch.setattr(manager, "get_or_create", and_then_it_is_deleted)
    row, is_new = instance_register(**said)
    assert is_new
    assert row.pk != first.pk


def test_whatever_comes_together_nothing_breaks(owner, transactional_db):
    """An instance registers, leaves, is checked and deleted for good by several processes at once."""
    said = {"kind": "runner", "base_url": ONE["base_url"], "described": Described(time_to_live=60)}
    acts = [
        lambda _row: instance_register(actor=owner, **said),
        lambda row: services.instance_delete(actor=owner, instance=row),
        lambda row: checked(row.pk, Look(ok=True, reason="", latency_ms=1)),
        lambda row: services.instance_forget(actor=owner, instance=row),
    ]
    together = threading.Barrier(len(acts), timeout=30)

    def act_often(act):
        try:
            together.wait()
            for _ in range(10):
                with suppress(Http404):
                    act(ServiceInstance.objects.first() or ServiceInstance())
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        list(pool.map(act_often, acts))  # raises what any of them raised
    row, _is_new = instance_register(actor=owner, **said)
    assert ServiceInstance.objects.get() == row


def test_a_check_that_is_written_down_while_the_instance_is_deleted(transactional_db):
    row = ServiceInstance.objects.create(
        kind="runner", base_url="http://gone", source=Source.API, left_at=timezone.now() - LONG_AGO
    )
    errors = []

    def delete():
        try:
            delete_left_services()
        except DatabaseError as error:
            errors.append(error)
        finally:
            connection.close()

    deleting = threading.Thread(target=delete)
    with transaction.atomic():
        ServiceInstance.objects.select_for_update(no_key=True).get(pk=row.pk)
        deleting.start()
        deleting.join(0.2)  # in PostgreSQL, it waits for the row
        ServiceCheck.objects.create(instance=row, ok=True)
    deleting.join(30)
    assert (errors, ServiceInstance.objects.count(), ServiceCheck.objects.count()) == ([], 0, 0)


def test_an_administrator_adds_takes_out_brings_back_and_forgets(admin_client, settings):
    settings.SERVICE_PRIVATE_ADDRESSES = True
    form = {"kind": "runner", "base_url": "HTTP://127.1:9102/", "dialect": "standard", "weight": 2, "reason": "new one"}
    for outcome in (302, 200):  # the second time, there is such an instance already
        assert admin_client.post(f"{PAGE}add/", form).status_code == outcome
    row = ServiceInstance.objects.get()
    assert (row.base_url, row.source, audited("service_registered").reason) == (ONE["base_url"], "admin", "new one")
    for field, value in (("time_to_live", 14), ("time_to_live", 3601), ("weight", 101)):
        bad = {**form, "base_url": "http://127.0.0.1:1", field: value}
        assert f'id="id_{field}_error"' in admin_client.post(f"{PAGE}add/", bad).content.decode()
    sure = {"confirmed": "yes", "reason": "because"}
    admin_client.post(f"{PAGE}{row.pk}/delete/", sure)
    row.refresh_from_db()
    assert (row.left_at is not None, audited("service_deregistered").reason) == (True, "because")
    assert admin_client.get(f"{PAGE}{row.pk}/change/").status_code == 200
    assert admin_client.post(f"{PAGE}add/", form).status_code == 302
    row.refresh_from_db()
    assert row.left_at is None
    for _ in range(2):
        admin_client.post(f"{PAGE}{row.pk}/delete/", sure)
    assert not ServiceInstance.objects.exists()
