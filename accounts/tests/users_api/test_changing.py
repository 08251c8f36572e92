"""Users as administrators change them, and not over what was changed meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from accounts.models import AuditEntry, Mail, User
from accounts.tests.users_api.calls import NOBODY, actions, path_of
from gateway.api.errors import ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]


@pytest.mark.parametrize(
    "change",
    [
        {"email": "New@example.com"},
        {"first_name": "Ayşe", "last_name": ""},
        {"language": "tr"},
        {"is_active": False},
        {"must_change_password": True},
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_change_is_made_told_and_written_down(client, alice, admin, change):
    answer = client.patch(path_of(alice), {**change, "reason": "as asked"})
    assert answer.status_code == 200, answer.content
    assert {field: answer.json()[field] for field in change} == change
    assert answer.json() == client.get(path_of(alice)).json()
    entry = AuditEntry.objects.get(action="user_changed")
    assert (entry.actor_id, entry.target_name, entry.reason) == (admin.id, "alice", "as asked")
    assert {field: values[1] for field, values in entry.changes.items()} == {
        field: value for field, value in change.items() if value != ""
    }


def test_a_change_that_changes_nothing_is_not_written_down(client, alice):
    assert client.patch(path_of(alice), {"email": "alice@example.com", "is_active": True}).status_code == 200
    assert client.patch(path_of(alice), {}).status_code == 200
    assert actions() == []


def test_a_new_address_is_unverified_and_told_to_both(client, alice):
    alice.email_verified_at = alice.date_joined
    alice.save()
    assert client.patch(path_of(alice), {"email": "new@example.com"}).json()["email_verified_at"] is None
    assert set(Mail.objects.values_list("address", flat=True)) == {"alice@example.com", "new@example.com"}


@pytest.mark.parametrize(
    "change",
    [
        {"is_staff": True},
        {"is_superuser": True},
        {"roles": []},
        {"groups": []},
        {"user_permissions": []},
        {"password": "another password"},
        {"username": "malice"},
        {"id": NOBODY},
        {"email_verified_at": "2026-01-01T00:00:00Z"},
        {"date_joined": "2026-01-01T00:00:00Z"},
    ],
    ids=lambda given: str(given)[:40],
)
def test_what_is_not_to_be_changed_here_is_refused_by_name(client, alice, change):
    before = User.objects.filter(id=alice.id).values().get()
    answer = client.patch(path_of(alice), {"first_name": "A", **change})
    assert fields_of(answer) == dict.fromkeys(change, "unknown_field")
    assert User.objects.filter(id=alice.id).values().get() == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"email": "bob@example.com"}, "unique"),
        ({"email": "BOB@Example.com"}, "unique"),
        ({"email": "x"}, "invalid"),
        ({"first_name": "a" * 151}, "max_length"),
        ({"first_name": 1}, "invalid"),
        ({"last_name": "\0"}, "null_characters_not_allowed"),
        ({"language": "xx"}, "invalid_choice"),
        ({"language": []}, "invalid_choice"),
        ({"is_active": "no"}, "invalid"),
        ({"is_active": 0}, "invalid"),
        ({"is_active": None}, "null"),
        ({"must_change_password": []}, "invalid"),
        ({"reason": "r" * 201}, "max_length"),
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_bad_value_names_the_field_and_changes_nothing(client, alice, bob, change, code):
    before = User.objects.filter(id=alice.id).values().get()
    answer = client.patch(path_of(alice), **escaped_json({"language": "tr", **change}))
    assert fields_of(answer) == dict.fromkeys(change, code)
    assert User.objects.filter(id=alice.id).values().get() == before


def test_ones_own_address_in_other_letters_is_not_taken(client, alice):
    assert client.patch(path_of(alice), {"email": "Alice@example.com"}).json()["email"] == "Alice@example.com"


ACTS: list[tuple[str, str, dict[str, object] | None]] = [
    ("patch", "", {"first_name": "Ayşe"}),
    ("delete", "", None),
    ("put", "/roles", {"roles": []}),
]


@pytest.mark.parametrize(("method", "tail", "body"), ACTS)
@pytest.mark.parametrize("accept", ["application/json", "application/json; indent=4"])
def test_what_was_changed_meanwhile_is_not_overwritten(client, alice, method, tail, body, accept):
    etag = client.get(path_of(alice), headers={"Accept": accept})["ETag"]
    act = getattr(client, method)
    User.objects.filter(id=alice.id).update(language="tr")
    headers = {"If-Match": etag, "Accept": accept}
    problem_of(act(path_of(alice, tail), body, headers=headers), ErrorCode.PRECONDITION_FAILED)
    assert User.objects.get(id=alice.id).groups.exists()
    User.objects.filter(id=alice.id).update(language="en")
    assert act(path_of(alice, tail), body, headers=headers).status_code in (200, 204)


@pytest.mark.parametrize("header", ['"x"', "W/{etag}", "x", "", '"x", "y"'])
def test_an_etag_of_something_else_does_not_match(client, alice, header):
    etag = client.get(path_of(alice))["ETag"]
    answer = client.patch(path_of(alice), {"language": "tr"}, headers={"If-Match": header.format(etag=etag)})
    problem_of(answer, ErrorCode.PRECONDITION_FAILED)


def test_the_answer_to_a_change_has_the_etag_for_the_next(client, alice):
    etag = client.get(path_of(alice))["ETag"]
    for name in ("A", "B"):
        answer = client.patch(path_of(alice), {"first_name": name}, headers={"If-Match": f'"x", {etag}'})
        assert answer.status_code == 200
        etag = answer["ETag"]
    assert client.get(path_of(alice))["ETag"] == etag
    assert client.patch(path_of(alice), {"first_name": "C"}, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_two_who_change_the_same_state_at_once_one_is_told(api, admin, alice):
    clients = [api(admin), api(admin)]
    etag = clients[0].get(path_of(alice))["ETag"]
    start = Barrier(2)

    def change(client):
        start.wait(20)
        try:
            body = {"first_name": f"name {clients.index(client)}"}
            return client.patch(path_of(alice), body, headers={"If-Match": etag}).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(change, clients)) == [200, 412]
