"""`Idempotency-Key`: a client that got no answer sends the same again, and nothing is made twice."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.db import connection
from django.utils import timezone

from accounts.idempotency import KEPT
from accounts.models import ApiKey, AuditEntry, IdempotentAnswer, Mail, Role, User
from accounts.tasks import delete_old_answers
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

REGISTER, USERS, ROLES, KEYS, ME = (f"/api/v2/{path}" for path in ("auth/register", "users", "roles", "api-keys", "me"))
CAROL = {"username": "carol", "email": "carol@example.com", "password": "a long new password"}
BODIES = {
    REGISTER: CAROL,
    USERS: CAROL,
    ROLES: {"name": "reader", "permissions": ["commands.read_own_command"]},
    KEYS: {"name": "robot", "scopes": ["commands.read_own_command"]},
}
MADE = {REGISTER: User, USERS: User, ROLES: Role, KEYS: ApiKey}
each_path = pytest.mark.parametrize("path", BODIES)


@pytest.fixture
def client(api, admin):
    return api(admin)


def body_of(path, **change):
    expiry = {"expires_at": (timezone.now() + timedelta(days=1)).replace(microsecond=0).isoformat()}
    return {**BODIES[path], **(expiry if path == KEYS else {}), **change}


def send(client, path, body, key="one"):
    return client.post(path, body, HTTP_IDEMPOTENCY_KEY=key)


@each_path
def test_the_same_again_is_answered_the_same_and_makes_nothing(client, path):
    body, model = body_of(path), MADE[path]
    first = send(client, path, body)
    assert first.status_code == 201
    counts = [each.objects.count() for each in (model, AuditEntry, Mail)]
    again = send(client, path, dict(reversed(body.items())))
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers.get("Location") == first.headers.get("Location")
    assert again.headers.get("Cache-Control") == first.headers.get("Cache-Control")
    assert [each.objects.count() for each in (model, AuditEntry, Mail)] == counts


@each_path
def test_another_body_is_refused(client, path):
    assert send(client, path, body_of(path)).status_code == 201
    change = {"name": "other"} if "name" in BODIES[path] else {"username": "dave", "email": "dave@example.com"}
    problem_of(send(client, path, body_of(path, **change)), ErrorCode.IDEMPOTENCY_KEY_REUSED)
    assert send(client, path, body_of(path, **change), "two").status_code == 201


@each_path
def test_a_key_that_cannot_be_one_is_refused(client, path):
    count = MADE[path].objects.count()
    for key in ("", "x" * 256, "ğ"):
        assert fields_of(send(client, path, body_of(path), key)) == {"Idempotency-Key": "invalid"}
    assert MADE[path].objects.count() == count


def test_a_refusal_is_not_remembered(client, alice):
    assert fields_of(send(client, USERS, {**CAROL, "username": "alice"})) == {"username": "unique"}
    assert send(client, USERS, CAROL).status_code == 201


def test_what_is_recorded_of_a_refusal_stays(api, alice):
    """Else somebody could ask for taken names without end, and by a header."""
    assert fields_of(send(api(None), REGISTER, {**CAROL, "username": "alice"})) == {"username": "unique"}
    assert AuditEntry.objects.filter(action="name_taken").count() == 1
    assert not IdempotentAnswer.objects.exists()


@pytest.mark.parametrize("path", [REGISTER, USERS])
def test_no_transaction_is_open_while_a_password_is_hashed(client, path, monkeypatch):
    """On SQLite nobody else could write meanwhile."""
    depths, hashed = [], MD5PasswordHasher.encode

    def encode(*args):
        depths.append(len(connection.savepoint_ids))
        return hashed(*args)

    monkeypatch.setattr(MD5PasswordHasher, "encode", encode)
    outside = len(connection.savepoint_ids)  # the test's own
    assert send(client, path, CAROL).status_code == 201
    assert depths == [outside]


def test_a_key_is_one_persons_and_one_routes(api, admin, client):
    other = User.objects.create_superuser("other", "other@example.com", PASSWORD)
    assert send(client, USERS, CAROL).status_code == 201
    assert fields_of(send(api(other), USERS, CAROL)) == {"username": "unique", "email": "unique"}
    assert send(client, ROLES, BODIES[ROLES]).status_code == 201


def test_strangers_are_told_apart_by_their_address(api, db):
    assert send(api(None), REGISTER, CAROL).status_code == 201
    answer = api(None).post(REGISTER, CAROL, HTTP_IDEMPOTENCY_KEY="one", REMOTE_ADDR="198.51.100.7")
    assert fields_of(answer) == {"username": "unique", "email": "unique"}


def test_an_api_key_that_is_shown_again_is_good_and_kept_nowhere(api, alice):
    client, body = api(alice), body_of(KEYS)
    shown = [send(client, KEYS, body).json()["key"] for _ in range(2)]
    assert shown[0] == shown[1]
    machine = api(None)
    machine.credentials(HTTP_AUTHORIZATION=f"Bearer {shown[1]}")
    assert machine.get(ME).status_code == 200
    secret = shown[0].split("_", 2)[2]
    assert len(secret) == 43
    for model in (ApiKey, AuditEntry, IdempotentAnswer):
        assert secret not in str(list(model.objects.values()))
    assert secret not in send(client, KEYS, body, "two").json()["key"]


def test_no_password_is_kept(client):
    assert send(client, USERS, CAROL).status_code == 201
    assert CAROL["password"] not in str(list(IdempotentAnswer.objects.values()))


def test_after_a_day_it_is_forgotten(client):
    assert send(client, ROLES, BODIES[ROLES]).status_code == 201
    delete_old_answers()
    assert IdempotentAnswer.objects.count() == 1
    IdempotentAnswer.objects.update(created_at=timezone.now() - KEPT - timedelta(seconds=1))
    delete_old_answers()
    assert fields_of(send(client, ROLES, BODIES[ROLES])) == {"name": "unique"}


@each_path
@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_makes_it_and_all_get_the_answer(api, path, db):
    user = User.objects.create_superuser("admin", "admin@example.com", PASSWORD)
    body, count, together = body_of(path), MADE[path].objects.count(), Barrier(4)
    clients = [api(user) for _ in range(together.parties)]

    def ask(client):
        together.wait(30)
        try:
            answer = send(client, path, body)
            return answer.status_code, answer.json()
        finally:
            connection.close()

    with ThreadPoolExecutor(together.parties) as pool:
        answers = list(pool.map(ask, clients))
    assert answers == [answers[0]] * together.parties
    assert answers[0][0] == 201
    assert MADE[path].objects.count() == count + 1
