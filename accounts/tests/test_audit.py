"""The record of security-relevant acts: what is in it, that nobody changes it, and what must not be in it."""

import json
from datetime import timedelta

import pytest
from django.core.serializers import serialize
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import audit
from accounts.audit import Action
from accounts.models import ApiKey, AuditEntry, User
from accounts.sqlite import audit_deletion_refuse
from conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

LOGIN, REFRESH, KEYS = "/api/v2/auth/login", "/api/v2/auth/refresh", "/api/v2/api-keys"
CHANGE, RESET = "/api/v2/auth/password/change", "/api/v2/auth/password/reset"


@pytest.fixture
def entry(alice):
    return audit.record(Action.USER_CHANGED, actor=alice, target=alice, changes={"email": ("a", "b")}, reason="why")


def rows():
    return list(AuditEntry.objects.order_by("id").values())


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_an_entry_says_who_what_on_whom_from_where_before_after_and_why(api, alice, admin):
    client = api(admin)
    session = admin.device_sessions.get()
    answer = client.patch(
        f"/api/v2/users/{alice.id}",
        {"email": "new@example.com", "reason": "she asked for it"},
        REMOTE_ADDR="192.0.2.9",
        HTTP_X_REQUEST_ID="request-7",
    )
    assert answer.status_code == 200, answer.content
    made = AuditEntry.objects.get(action=Action.USER_CHANGED)
    assert (made.actor_id, made.actor_name) == (admin.id, "admin")
    assert (made.credential_id, made.address, made.request_id) == (session.id, "192.0.2.9", "request-7")
    assert (made.target_type, made.target_id, made.target_name) == ("user", str(alice.id), "alice")
    assert made.changes == {"email": ["alice@example.com", "new@example.com"]}
    assert made.reason == "she asked for it"
    assert timezone.now() - made.at < timedelta(minutes=1)


def test_what_a_key_does_is_told_from_what_its_user_does(api, alice):
    body = {"name": "robot", "scopes": ["commands.read_own_command"], "expires_at": str(timezone.now() + timedelta(1))}
    client = api(alice)
    key_id = client.post(KEYS, body).json()["id"]
    client.delete(f"{KEYS}/{key_id}")
    made, revoked = AuditEntry.objects.filter(action__startswith="api_key").order_by("id")
    session = alice.device_sessions.get()
    for each in (made, revoked):
        assert (each.actor_name, each.credential_id) == ("alice", session.id)
        assert (each.target_type, each.target_id) == ("apikey", key_id)
    assert made.changes["scopes"] == [None, body["scopes"]]
    assert made.changes["expires_at"][0] is None
    assert revoked.changes["revoked_at"][0] is None


def test_an_entry_outlives_those_it_speaks_of(alice, entry):
    alice.delete()
    assert (AuditEntry.objects.get(id=entry.id).actor_name, User.objects.count()) == ("alice", 0)


def test_what_is_too_long_is_cut(alice):
    entry = audit.record(Action.USER_CHANGED, actor=alice, reason="x" * 1000)
    assert entry.reason == "x" * 200


def test_an_act_that_fails_leaves_no_entry(alice):
    def act():
        audit.record(Action.USER_CHANGED, actor=alice)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transaction.atomic(act)()
    assert rows() == []


def test_nobody_in_particular_can_act(db):
    entry = audit.record(Action.SIGN_IN_FAILED, actor=None)
    assert (entry.actor_id, entry.actor_name, entry.target_id, entry.address) == (None, "", "", None)


# --- that nobody changes it ------------------------------------------------------------------------------------------


def _save(entry):
    entry.reason = "another"
    entry.save()


def _save_fields(entry):
    entry.reason = "another"
    entry.save(update_fields=["reason"])


REFUSED = [
    _save,
    _save_fields,
    lambda entry: entry.delete(),
    lambda entry: AuditEntry.objects.filter(id=entry.id).update(reason="another"),
    lambda entry: AuditEntry.objects.bulk_update([entry], ["reason"]),
    lambda entry: AuditEntry.objects.filter(id=entry.id).delete(),
    lambda entry: AuditEntry.objects.update_or_create(id=entry.id, defaults={"reason": "another"}),
    lambda entry: AuditEntry.objects.bulk_create(
        [AuditEntry(id=entry.id, action="x")], update_conflicts=True, unique_fields=["id"], update_fields=["action"]
    ),
    lambda entry: AuditEntry._base_manager.filter(id=entry.id).update(reason="another"),
]


@pytest.mark.parametrize("attempt", REFUSED)
def test_the_application_cannot_change_an_entry(entry, attempt):
    before = rows()
    with pytest.raises((TypeError, DatabaseError, IntegrityError)), transaction.atomic():
        attempt(entry)
    assert rows() == before


@pytest.mark.parametrize("sql", ["UPDATE accounts_auditentry SET {}", "UPDATE accounts_auditentry SET {} WHERE 1 = 1"])
@pytest.mark.parametrize("column", ["reason = 'another'", "actor_id = NULL", "at = CURRENT_TIMESTAMP", "id = id"])
def test_the_database_refuses_to_change_an_entry(entry, sql, column):
    before = rows()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.format(column))
    assert rows() == before


def test_the_database_refuses_to_delete_an_entry_too(entry):
    if connection.vendor == "sqlite":
        audit_deletion_refuse()  # as `make run` does; the test's transaction undoes it
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_auditentry")
    assert AuditEntry.objects.count() == 1


def test_no_route_of_the_api_leads_to_it(api, admin):
    assert api(admin).get("/api/v2/audit").status_code == 404


# --- what must not be in it ------------------------------------------------------------------------------------------


def test_no_secret_is_in_any_entry(api, alice, admin):
    """Whoever reads the record must not be able to sign in as those it speaks of."""
    secrets = [PASSWORD, "a wrong guess at it", "another long passphrase", "a third long passphrase"]
    stranger = api(None)
    stranger.post(LOGIN, {"login": "alice", "password": secrets[1]})
    stranger.post(LOGIN, {"login": secrets[1], "password": secrets[1]})  # who types it into the wrong field
    tokens = stranger.post(LOGIN, {"login": "alice", "password": PASSWORD, "device_name": "phone"}).json()
    successor = stranger.post(REFRESH, {"refresh": tokens["refresh"]}).json()
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {successor['access']}")
    key = client.post(
        KEYS,
        {
            "name": "robot",
            "scopes": ["commands.read_own_command"],
            "expires_at": str(timezone.now() + timedelta(days=1)),
        },
    ).json()
    assert client.post(CHANGE, {"current": PASSWORD, "new": secrets[2]}).status_code == 204
    client.post(CHANGE, {"current": secrets[1], "new": secrets[3]})
    stranger.post(RESET, {"token": "x", "password": secrets[3]})
    alice.device_sessions.update(refreshed_at=timezone.now() - timedelta(hours=1))
    assert stranger.post(REFRESH, {"refresh": tokens["refresh"]}).json()["code"] == "token_reused"
    created = api(admin).post(
        "/api/v2/users", {"username": "carol", "email": "carol@example.com", "password": secrets[3]}
    )
    assert created.status_code == 201, created.content
    device = TOTPDevice.objects.create(user=admin)
    secrets += [each[name] for each in (tokens, successor) for name in ("access", "refresh")]
    secrets += [key["key"], ApiKey.objects.get().key_sha256, device.key]
    secrets += User.objects.values_list("password", flat=True)
    record = serialize("json", AuditEntry.objects.all())
    done = {entry["fields"]["action"] for entry in json.loads(record)}
    assert done >= {
        "signed_in",
        "sign_in_failed",
        "api_key_created",
        "password_changed",
        "refresh_token_reused",
        "session_ended",
        "user_created",
    }
    assert [secret for secret in secrets if secret in record] == []
    assert key["key"].split("_", 2)[2] not in record
