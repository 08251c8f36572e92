"""Sessions, API keys, failed sign-ins, mails and the audit record in the admin: read, and some of them ended."""

import csv
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.contrib.messages import get_messages
from django.db import connections
from django.test import AsyncClient, Client
from django.utils import timezone

from accounts.audit import Action, record
from accounts.models import ApiKey, AuditEntry, DeviceSession, FailedSignIns, Mail
from accounts.models.mail import MailKind
from accounts.services import failed_sign_ins
from accounts.services.mail import mail_send
from accounts.services.sessions import session_start
from accounts.tests.people import client_with_key, signed_in, staff
from conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

SESSIONS, KEYS = "/admin/accounts/devicesession/", "/admin/accounts/apikey/"
FAILURES, MAILS, AUDIT = "/admin/accounts/failedsignins/", "/admin/accounts/mail/", "/admin/accounts/auditentry/"
EXPORT = f"{AUDIT}export/"
WHY = "as the ticket says"
SURE = {"confirmed": "yes", "reason": WHY}


@pytest.fixture
def client(admin):
    return signed_in(admin)


def said(answer):
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def listed(client, path, **query):
    answer = client.get(path, query)
    assert answer.status_code == 200
    return [row.pk for row in answer.context["cl"].result_list]


# --- sessions and API keys ------------------------------------------------------------------------------------------


@pytest.fixture
def session(alice):
    return session_start(login="alice", password=PASSWORD, device_name="phone")[0]


@pytest.fixture
def key(alice):
    client_with_key(alice, "commands.read_own_command")
    return ApiKey.objects.get()


@pytest.mark.django_db(transaction=True)
def test_a_session_is_ended_from_its_page(client, alice, api, admin):
    there = api(alice)
    assert there.get("/api/v2/me").status_code == 200
    session = DeviceSession.objects.get(user=alice)
    url = f"{SESSIONS}{session.pk}/end/"
    assert client.get(url).status_code == 200
    client.post(url, {"confirmed": "yes"})
    assert there.get("/api/v2/me").status_code == 200
    assert client.post(url, SURE)["Location"] == f"{SESSIONS}{session.pk}/change/"
    assert there.get("/api/v2/me").status_code == 401
    entry = AuditEntry.objects.get(action=Action.SESSION_ENDED)
    assert (entry.actor_id, entry.reason) == (admin.pk, WHY)
    assert "ended by an administrator" in client.get(f"{SESSIONS}{session.pk}/change/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_key_is_revoked_from_its_page(client, alice, admin):
    machine = client_with_key(alice, "commands.read_own_command")
    assert machine.get("/api/v2/commands").status_code == 200
    key = ApiKey.objects.get()
    url = f"{KEYS}{key.pk}/revoke/"
    client.post(url, {"confirmed": "yes"})
    assert machine.get("/api/v2/commands").status_code == 200
    client.post(url, SURE)
    assert machine.get("/api/v2/commands").status_code == 401
    entry = AuditEntry.objects.get(action=Action.API_KEY_REVOKED)
    assert (entry.actor_id, entry.reason) == (admin.pk, WHY)


def test_many_are_ended_at_once(client, session, key):
    client.post(SESSIONS, {"action": "end_chosen", "_selected_action": [str(session.pk)], **SURE})
    client.post(KEYS, {"action": "revoke_chosen", "_selected_action": [str(key.pk)], **SURE})
    session.refresh_from_db()
    key.refresh_from_db()
    assert session.ended_at
    assert key.revoked_at


@pytest.mark.parametrize("kind", ["session", "key"])
def test_ending_needs_its_permission(session, key, alice, kind):
    path, row, one, many = (
        (SESSIONS, session, "end", "end_chosen") if kind == "session" else (KEYS, key, "revoke", "revoke_chosen")
    )
    clerk = staff("accounts.view_devicesession", "accounts.view_apikey", "accounts.change_devicesession")
    for other in (Client(), signed_in(alice), clerk):
        assert other.post(f"{path}{row.pk}/{one}/", SURE).status_code in (302, 403)
        other.post(path, {"action": many, "_selected_action": [str(row.pk)], **SURE})
    assert clerk.post(f"{path}{row.pk}/{one}/", SURE).status_code == 403
    session.refresh_from_db()
    key.refresh_from_db()
    assert session.ended_at is None
    assert key.revoked_at is None


def test_nobody_ends_what_belongs_to_somebody_who_may_do_more(admin):
    client_with_key(admin)
    session, _tokens = session_start(login="admin", password=PASSWORD)
    clerk = staff(
        "accounts.view_devicesession", "accounts.view_apikey", "accounts.end_session", "accounts.delete_apikey"
    )
    for url in (f"{SESSIONS}{session.pk}/end/", f"{KEYS}{ApiKey.objects.get().pk}/revoke/"):
        assert "You can change only users who may do no more than you." in said(clerk.post(url, SURE))
    assert DeviceSession.objects.get(pk=session.pk).ended_at is None
    assert ApiKey.objects.get().revoked_at is None


def test_sessions_and_keys_are_found(client, session, key, bob):
    session_start(login="bob", password=PASSWORD)
    own, now = DeviceSession.objects.exclude(user__username="admin"), timezone.now()
    for query in ({"user": "alice"}, {"user": "ALICE@example.com"}, {"user": str(session.user_id)}, {"q": "phone"}):
        assert listed(client, SESSIONS, **query) == [session.pk]
    assert listed(client, SESSIONS, q=str(session.pk)) == [session.pk]
    assert listed(client, SESSIONS, user="nobody") == listed(client, SESSIONS, state="ended") == []
    own.filter(user__username="bob").update(ended_at=now)
    own.filter(pk=session.pk).update(expires_at=now)
    assert listed(client, SESSIONS, state="expired") == [session.pk]
    assert len(listed(client, SESSIONS, state="ended")) == len(listed(client, SESSIONS, state="open")) == 1
    assert listed(client, KEYS, state="good", user="alice") == [key.pk]
    assert listed(client, KEYS, state="revoked") == listed(client, KEYS, state="expired") == []


def test_a_key_itself_is_shown_nowhere(client, key):
    for path in (KEYS, f"{KEYS}{key.pk}/change/"):
        page = client.get(path).content.decode()
        assert key.key_sha256 not in page
        assert "_secret" not in page


# --- failed sign-ins and mails --------------------------------------------------------------------------------------


@pytest.fixture
def failures(alice):
    for login in ("alice", "somebody else"):
        failed_sign_ins.failed(failed_sign_ins.check(login))
    return FailedSignIns.objects


def test_failures_are_found_by_whom_they_concern(client, failures, alice):
    own = set(failures.filter(failed_sign_ins.failures_of(alice)).values_list("pk", flat=True))
    for user in ("alice", "alice@example.com", str(alice.pk)):
        assert set(listed(client, FAILURES, user=user)) == own
    assert own < set(listed(client, FAILURES))
    assert listed(client, FAILURES, user="nobody") == listed(client, FAILURES, state="blocked") == []
    assert {failures.get(pk=pk).key.partition(":")[0] for pk in listed(client, FAILURES, what="pair")} == {"pair"}


def test_failures_are_forgotten_by_who_may_unlock(client, failures, alice):
    chosen = {"action": "forget_chosen", "_selected_action": [failures.first().pk], **SURE}
    for other in (Client(), signed_in(alice), staff("accounts.view_failedsignins")):
        other.post(FAILURES, chosen)
    count = failures.count()
    staff("accounts.view_failedsignins", "accounts.unlock_user", name="other").post(FAILURES, chosen)
    assert failures.count() == count - 1
    assert AuditEntry.objects.get(action=Action.USER_UNLOCKED).reason == WHY


def test_mails_show_how_far_they_have_come(client, alice):
    mails = [mail_send(MailKind.VERIFY_EMAIL, user=alice) for _ in range(3)]
    Mail.objects.filter(pk=mails[1].pk).update(due_at=None, sent_at=timezone.now())
    Mail.objects.filter(pk=mails[2].pk).update(due_at=None)
    states = {state: listed(client, MAILS, state=state, user="alice") for state in ("waiting", "sent", "unsent")}
    assert states == {"waiting": [mails[0].pk], "sent": [mails[1].pk], "unsent": [mails[2].pk]}


@pytest.mark.parametrize("path", [SESSIONS, KEYS, FAILURES, MAILS, AUDIT])
def test_records_can_only_be_read(client, session, key, failures, alice, path):
    mail_send(MailKind.VERIFY_EMAIL, user=alice)
    row = client.get(path).context["cl"].result_list[0]
    for page in (f"{path}add/", f"{path}{row.pk}/delete/", f"{path}{row.pk}/change/"):
        assert client.post(page, {"post": "yes", **SURE}).status_code == 403
    client.post(path, {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"})
    assert client.get(f"{path}{row.pk}/change/").status_code == 200


# --- the audit record -----------------------------------------------------------------------------------------------


@pytest.fixture
def entries(admin, alice, bob):
    return [
        record(Action.USER_CHANGED, actor=admin, target=alice, changes={"email": ("a", "<b>b</b>")}, reason=WHY),
        record(Action.USER_CHANGED, actor=admin, target=bob),
        record(Action.SIGN_IN_FAILED, actor=None, target=bob),
        record(Action.EMAIL_VERIFIED, actor=bob, target=bob),
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"action_is": "user_changed"}, [1, 0]),
        ({"actor": "admin", "action_is": "user_changed"}, [1, 0]),
        ({"actor": "bob"}, [3]),
        ({"target": "alice"}, [0]),
        ({"about": "bob"}, [3, 2, 1]),
        ({"type": "user"}, [3, 2, 1, 0]),
        ({"type": "role"}, []),
        ({"q": "ticket"}, [0]),
        ({"actor": "nobody"}, []),
        ({"type": "user", "at_from": "2000-01-01", "at_to": "2000-01-02"}, []),
        ({"type": "user", "at_from": "2000-01-01"}, [3, 2, 1, 0]),
        ({"type": "user", "at_from": "x", "at_to": "9999-12-31"}, [3, 2, 1, 0]),
    ],
    ids=str,
)
def test_the_record_is_filtered(client, entries, query, found):
    assert listed(client, AUDIT, **query) == [entries[index].pk for index in found]


def test_the_record_is_filtered_by_ids(client, entries, bob):
    assert listed(client, AUDIT, actor=str(bob.pk)) == [entries[3].pk]
    assert listed(client, AUDIT, target=str(bob.pk)) == [entries[index].pk for index in (3, 2, 1)]
    assert listed(client, AUDIT, q=str(entries[0].pk)) == [entries[0].pk]


def test_a_day_is_taken_whole(client, entries):
    moment = entries[0].at
    AuditEntry.objects.bulk_create(
        AuditEntry(at=moment, action=Action.USER_CHANGED, target_name=name) for name in ("before", "after")
    )
    today = f"{moment:%Y-%m-%d}"
    assert entries[0].pk in listed(client, AUDIT, at_from=today, at_to=today)
    assert listed(client, AUDIT, at_to=f"{moment - timedelta(days=1):%Y-%m-%d}") == []
    assert listed(client, AUDIT, at_from=f"{moment + timedelta(days=1):%Y-%m-%d}") == []


def test_the_page_shows_before_and_after_and_escapes_them(client, entries):
    page = client.get(f"{AUDIT}{entries[0].pk}/change/").content.decode()
    assert "<th>email</th><td>a</td><td>&lt;b&gt;b&lt;/b&gt;</td>" in page


def exported(client, **query):
    answer = client.get(EXPORT, query)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"].startswith('attachment; filename="audit-')
    return list(csv.DictReader(answer.getvalue().decode().splitlines()))


def test_the_filtered_record_is_exported_and_that_is_recorded(client, entries, admin):
    rows = exported(client, action_is="user_changed")
    assert [row["target_name"] for row in rows] == ["bob", "alice"]
    assert rows[1]["changes"] == '{"email": ["a", "<b>b</b>"]}'
    assert (rows[1]["actor_name"], rows[1]["reason"]) == ("admin", WHY)
    act = AuditEntry.objects.get(action=Action.AUDIT_EXPORTED)
    assert (act.actor_id, act.changes) == (admin.pk, {"action_is": ["", "user_changed"]})


def test_the_list_offers_the_export_of_what_it_shows(client, entries):
    assert f"{EXPORT}?actor=bob&amp;type=user" in client.get(AUDIT, {"actor": "bob", "type": "user"}).content.decode()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "＝1", " =1"])  # noqa: RUF001 - the wide form is meant
def test_no_cell_is_a_formula(client, admin, text):
    record(Action.USER_CHANGED, actor=admin, reason=text)
    [row] = exported(client, action_is="user_changed")
    assert not row["reason"].lstrip().startswith(tuple("=+-@＝"))  # noqa: RUF001 - the same


def test_a_long_record_is_exported_whole_and_once(client, admin, monkeypatch):
    monkeypatch.setattr("accounts.admin.audit_export._AT_A_TIME", 2)
    entries = [record(Action.USER_CHANGED, actor=admin, reason=str(number)) for number in range(5)]
    rows = exported(client, action_is="user_changed")
    assert [row["reason"] for row in rows] == [entry.reason for entry in reversed(entries)]


@pytest.mark.django_db(transaction=True)
async def test_the_export_is_streamed_by_an_asgi_server_too(admin):
    client = AsyncClient()
    await client.aforce_login(admin)
    answer = await client.get(EXPORT)
    assert answer.is_async
    rows = b"".join([piece async for piece in answer]).decode().splitlines()
    assert [row["action"] for row in csv.DictReader(rows)] == ["audit_exported", "signed_in"]
    await sync_to_async(connections.close_all)()  # that of the thread in which the views ran


def test_the_export_needs_its_permission(alice, entries):
    clerk = staff("accounts.view_auditentry")
    assert clerk.get(EXPORT).status_code == 403
    assert EXPORT not in clerk.get(AUDIT).content.decode()
    for other in (Client(), signed_in(alice)):
        assert other.get(EXPORT)["Location"].startswith("/admin/login/")
    assert not AuditEntry.objects.filter(action=Action.AUDIT_EXPORTED).exists()
    assert staff("accounts.export_auditentry", name="blind").get(EXPORT).status_code == 403
    assert staff("accounts.view_auditentry", "accounts.export_auditentry", name="other").get(EXPORT).status_code == 200


@pytest.mark.parametrize("query", ["nothing=1", "id__exact=x", "actor=\0"])
def test_a_bad_parameter_exports_nothing(client, query):
    answer = client.get(f"{EXPORT}?{query}")
    assert answer["Location"] == AUDIT
    assert not AuditEntry.objects.filter(action=Action.AUDIT_EXPORTED).exists()
