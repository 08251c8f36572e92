"""The devices on which one is signed in: seen, ended, and ending by themselves."""

from datetime import timedelta

import jwt
import pytest
from django.conf import settings as django_settings
from django.utils import timezone
from rest_framework_simplejwt.settings import api_settings

from accounts import sign_in_cache
from accounts.models import AuditEntry, DeviceSession, User
from accounts.models.sessions import SessionEnd
from accounts.services import failed_sign_ins
from accounts.services.sessions import expired_sessions_delete, session_end, session_refresh, session_start
from accounts.sign_in import LAST_SEEN_STEP
from accounts.tests.people import client_with_key
from conftest import PASSWORD
from gateway.api.errors import ApiError, ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_sessions]

SESSIONS, ME, LOGIN, REFRESH = "/api/v2/me/sessions", "/api/v2/me", "/api/v2/auth/login", "/api/v2/auth/refresh"


@pytest.fixture
def alice(transactional_db):
    """Ending a session is felt after the commit: so there must be one."""
    return User.objects.create_user("alice", "alice@example.com", PASSWORD)


@pytest.fixture
def bob(transactional_db):
    return User.objects.create_user("bob", "bob@example.com", PASSWORD)


@pytest.fixture
def sign_in(api):
    """Call it for a client of a new session of alice's, and the id of that."""

    def sign_in(**headers):
        client = api(None)
        answer = client.post(LOGIN, {"login": "alice", "password": PASSWORD, "device_name": "Telefon"}, **headers)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
        return client, answer.json()["session_id"]

    return sign_in


def ids(client):
    return [row["id"] for row in client.get(SESSIONS).json()["results"]]


# --- seeing ----------------------------------------------------------------------------------------------------------


def test_a_device_is_told_apart_by_its_name_program_and_address(alice, sign_in):
    client, session_id = sign_in(HTTP_USER_AGENT="Firefox/150\x00\x1b[31m", REMOTE_ADDR="192.0.2.7")
    [row] = client.get(SESSIONS, REMOTE_ADDR="192.0.2.7").json()["results"]
    session = DeviceSession.objects.get(id=session_id)
    assert row == {
        "id": session_id,
        "device_name": "Telefon",
        "user_agent": "Firefox/150[31m",
        "address": "192.0.2.7",
        "created_at": session.created_at.isoformat().replace("+00:00", "Z"),
        "last_seen_at": session.last_seen_at.isoformat().replace("+00:00", "Z"),
        "expires_at": session.expires_at.isoformat().replace("+00:00", "Z"),
        "current": True,
    }


def test_a_very_long_program_name_is_cut(alice, sign_in):
    sign_in(HTTP_USER_AGENT="x" * 5000)
    assert DeviceSession.objects.get().user_agent == "x" * 300


@pytest.mark.parametrize(("proxies", "address"), [(0, "10.0.0.1"), (1, "192.0.2.9"), (2, "198.51.100.3")])
def test_the_address_is_believed_as_far_as_there_are_proxies(alice, sign_in, settings, proxies, address):
    settings.NUM_PROXIES = proxies
    sign_in(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.1, 198.51.100.3, 192.0.2.9")
    assert DeviceSession.objects.get().address == address


def test_one_sees_ones_own_open_sessions_the_latest_first(alice, bob, api, sign_in):
    (first, first_id), (second, second_id) = sign_in(), sign_in()
    _gone, ended_id = sign_in()
    session_end(session_id=ended_id, actor=None, reason=SessionEnd.LOGOUT)
    _gone, expired_id = sign_in()
    DeviceSession.objects.filter(id=expired_id).update(expires_at=timezone.now())
    api(bob)
    assert ids(first) == [second_id, first_id]
    rows = second.get(SESSIONS).json()["results"]
    assert [row["current"] for row in rows] == [True, False]


def test_they_come_in_pages(alice, sign_in):
    made = [sign_in()[1] for _ in range(3)]
    client, last = sign_in()
    page = client.get(SESSIONS, {"limit": 3}).json()
    rest = client.get(page["next"]).json()
    assert [row["id"] for row in page["results"] + rest["results"]] == [last, *reversed(made)]
    assert rest["next"] is None
    assert fields_of(client.get(SESSIONS, {"limit": 0})) == {"limit": "min_value"}
    assert fields_of(client.get(SESSIONS, {"user": "bob"})) == {"user": "unknown_field"}


def test_last_seen_moves_on_but_not_with_every_request(alice, sign_in):
    client, session_id = sign_in(REMOTE_ADDR="192.0.2.7")
    own = DeviceSession.objects.filter(id=session_id)
    recently = timezone.now() - LAST_SEEN_STEP / 2
    own.update(last_seen_at=recently)
    sign_in_cache.forget([own.get().id])
    assert client.get(ME, REMOTE_ADDR="192.0.2.8").status_code == 200
    assert (own.get().last_seen_at, own.get().address) == (recently, "192.0.2.7")
    own.update(last_seen_at=timezone.now() - LAST_SEEN_STEP)
    sign_in_cache.forget([own.get().id])
    assert client.get(ME, REMOTE_ADDR="192.0.2.8").status_code == 200
    assert timezone.now() - own.get().last_seen_at < LAST_SEEN_STEP / 2
    assert own.get().address == "192.0.2.8"


# --- ending ----------------------------------------------------------------------------------------------------------


def test_a_device_that_is_signed_out_is_out_at_once(alice, sign_in):
    here, (lost, lost_id) = sign_in()[0], sign_in()
    assert lost.get(ME).status_code == 200
    answer = here.delete(f"{SESSIONS}/{lost_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(lost.get(ME), ErrorCode.SESSION_ENDED)
    assert here.get(ME).status_code == 200
    session = DeviceSession.objects.get(id=lost_id)
    assert session.end_reason == "revoked"
    entry = AuditEntry.objects.get(action="session_ended")
    assert (entry.actor_id, entry.target_id, entry.changes) == (alice.id, lost_id, {"end_reason": ["", "revoked"]})
    problem_of(here.delete(f"{SESSIONS}/{lost_id}"), ErrorCode.NOT_FOUND)


def test_its_refresh_token_is_worth_nothing_either(alice, api, sign_in):
    here, _own = sign_in()
    session, tokens = session_start(login="alice", password=PASSWORD)
    assert here.delete(f"{SESSIONS}/{session.id}").status_code == 204
    problem_of(api(None).post(REFRESH, {"refresh": tokens.refresh}), ErrorCode.SESSION_ENDED)


def test_it_may_be_the_device_at_hand(alice, sign_in):
    client, session_id = sign_in()
    assert client.delete(f"{SESSIONS}/{session_id}").status_code == 204
    problem_of(client.get(ME), ErrorCode.SESSION_ENDED)


def test_all_but_this_one_are_signed_out(alice, bob, api, sign_in):
    (here, here_id), (phone, _), (laptop, _) = sign_in(), sign_in(), sign_in()
    other, machine = api(bob), client_with_key(alice)
    assert here.delete(SESSIONS).status_code == 204
    for client in (phone, laptop):
        problem_of(client.get(ME), ErrorCode.SESSION_ENDED)
    assert [client.get(ME).status_code for client in (here, other, machine)] == [200, 200, 200]
    assert ids(here) == [here_id]
    assert here.delete(SESSIONS).status_code == 204
    assert AuditEntry.objects.filter(action="session_ended").count() == 2


def test_the_session_of_another_is_not_there(alice, bob, api, sign_in, admin):
    own = sign_in()[1]
    for person in (bob, admin):
        problem_of(api(person).delete(f"{SESSIONS}/{own}"), ErrorCode.NOT_FOUND)
    problem_of(api(alice).delete(f"{SESSIONS}/{new_id()}"), ErrorCode.NOT_FOUND)
    problem_of(api(alice).delete(f"{SESSIONS}/x"), ErrorCode.NOT_FOUND)
    assert DeviceSession.objects.get(id=own).is_open()


@pytest.mark.parametrize("method", ["get", "delete"])
def test_sessions_are_for_people_on_a_device(alice, api, method):
    problem_of(getattr(api(None), method)(SESSIONS), ErrorCode.NOT_AUTHENTICATED)
    problem_of(getattr(client_with_key(alice), method)(SESSIONS), ErrorCode.DEVICE_SESSION_REQUIRED)
    problem_of(client_with_key(alice).delete(f"{SESSIONS}/{new_id()}"), ErrorCode.DEVICE_SESSION_REQUIRED)


# --- how long they last ----------------------------------------------------------------------------------------------


def age(session, **ago):
    """Let a session have begun, and been refreshed, so long ago."""
    then = timezone.now() - timedelta(**ago)
    DeviceSession.objects.filter(id=session.id).update(created_at=then, refreshed_at=then)


def lasts(session, since):
    session.refresh_from_db()
    return session.expires_at - since


def test_who_does_not_come_back_has_to_sign_in_again(alice, api, sign_in):
    client, session_id = sign_in()
    session = DeviceSession.objects.get(id=session_id)
    assert abs(lasts(session, session.created_at) - api_settings.REFRESH_TOKEN_LIFETIME) < timedelta(seconds=30)
    DeviceSession.objects.filter(id=session_id).update(expires_at=timezone.now())
    sign_in_cache.forget([session.id])
    problem_of(client.get(ME), ErrorCode.SESSION_ENDED)
    problem_of(api(None).post(REFRESH, {"refresh": "x.y.z"}), ErrorCode.TOKEN_INVALID)


def test_a_refresh_moves_the_end_on(alice):
    session, tokens = session_start(login="alice", password=PASSWORD)
    age(session, days=10)
    session_refresh(refresh=tokens.refresh)
    assert abs(lasts(session, timezone.now()) - api_settings.REFRESH_TOKEN_LIFETIME) < timedelta(seconds=30)


def test_however_busy_a_session_has_an_end(alice, settings):
    session, tokens = session_start(login="alice", password=PASSWORD)
    age(session, days=settings.SESSION_MAX_DAYS - 1)
    pair = session_refresh(refresh=tokens.refresh)
    left = lasts(session, timezone.now())
    assert timedelta(hours=23) < left <= timedelta(days=1)
    exp = jwt.decode(pair.refresh, options={"verify_signature": False})["exp"]
    assert exp == int(session.expires_at.timestamp())
    age(session, days=settings.SESSION_MAX_DAYS)
    DeviceSession.objects.filter(id=session.id).update(expires_at=timezone.now())
    with pytest.raises(ApiError) as caught:
        session_refresh(refresh=pair.refresh)
    assert caught.value.error_code == ErrorCode.SESSION_ENDED


def test_that_end_holds_from_the_beginning(alice, settings):
    settings.SESSION_MAX_DAYS = 7
    session, tokens = session_start(login="alice", password=PASSWORD)
    assert abs(lasts(session, session.created_at) - timedelta(days=7)) < timedelta(seconds=30)
    assert tokens.refresh_expires_at <= session.expires_at


def test_the_lifetimes_are_what_the_settings_say():
    assert timedelta(minutes=5) == api_settings.ACCESS_TOKEN_LIFETIME
    assert timedelta(days=30) == api_settings.REFRESH_TOKEN_LIFETIME
    assert django_settings.SESSION_MAX_DAYS == 90


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_old_rows_are_deleted_in_batches_ended_ones_when_their_time_is_over(alice, batch):
    old, open_session, ended = (session_start(login="alice", password=PASSWORD)[0] for _ in range(3))
    session_end(session_id=ended.id, actor=None, reason=SessionEnd.LOGOUT)
    session_end(session_id=old.id, actor=None, reason=SessionEnd.LOGOUT)
    DeviceSession.objects.filter(id=old.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert expired_sessions_delete(batch=batch) == 0  # it still says where she is known
    DeviceSession.objects.update(last_seen_at=timezone.now() - failed_sign_ins.KNOWN_FOR - timedelta(seconds=1))
    assert expired_sessions_delete(batch=batch) == 1
    assert set(DeviceSession.objects.all()) == {open_session, ended}  # the latter is still known if its token is used
