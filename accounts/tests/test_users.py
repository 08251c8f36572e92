"""What the database itself refuses, and the services that keep users and sessions."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import DeviceSession, User
from accounts.models.sessions import SessionEnd
from accounts.services import failed_sign_ins
from accounts.services.sessions import expired_sessions_delete, session_end, session_start
from accounts.services.users import user_ensure
from accounts.signals import session_ended
from accounts.tasks import delete_expired_sessions
from conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]


@pytest.mark.parametrize(
    ("username", "email"),
    [
        ("Alice", "other@example.com"),
        ("other", "ALICE@example.com"),
        ("other", "alice@EXAMPLE.com"),
        ("alice@example.com", "other@example.com"),
        ("@", "other@example.com"),
    ],
)
def test_the_database_keeps_people_apart(alice, username, email):
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.bulk_create([User(username=username, email=email)])
    assert User.objects.count() == 1


def test_a_name_that_only_looks_like_an_address_is_an_address(db):
    """NFKC turns the full-width sign into a plain one before it is stored."""
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("a\uff20b", "a@example.com", PASSWORD)


def session_of(user, *, expires_in):
    session, _tokens = session_start(login=user.username, password=PASSWORD)
    long_ago = timezone.now() - failed_sign_ins.KNOWN_FOR - timedelta(seconds=1)
    DeviceSession.objects.filter(id=session.id).update(expires_at=timezone.now() + expires_in, last_seen_at=long_ago)
    return session


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_only_expired_sessions_are_deleted_in_batches(alice, batch, django_assert_num_queries):
    for _ in range(3):
        session_of(alice, expires_in=-timedelta(seconds=1))
    good = session_of(alice, expires_in=timedelta(minutes=1))
    batches = -(-3 // batch)
    with django_assert_num_queries(3 * batches + 2):  # the last two find nothing more, here and for the admin pages
        assert expired_sessions_delete(batch=batch) == 3
    assert list(DeviceSession.objects.all()) == [good]


def test_the_task_deletes_them_too(alice):
    session_of(alice, expires_in=-timedelta(seconds=1))
    delete_expired_sessions()
    assert not DeviceSession.objects.exists()


def test_a_session_that_ends_is_announced_after_the_commit_only(alice, django_capture_on_commit_callbacks):
    session, _tokens = session_start(login="alice", password=PASSWORD)
    heard = []

    def listen(credential_id, **_kwargs):
        heard.append(credential_id)

    session_ended.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
            assert heard == []
    finally:
        session_ended.disconnect(listen)
    assert heard == [session.id]


def test_ending_a_session_twice_keeps_the_first_end(alice):
    session, _tokens = session_start(login="alice", password=PASSWORD)
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
    session.refresh_from_db()
    first = session.ended_at
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
    session.refresh_from_db()
    assert session.ended_at == first


def test_a_new_gateway_has_no_users(db):
    """What has run until now are the migrations, and what they set off."""
    assert not User.objects.exists()


def test_nothing_is_kept_of_a_user_that_could_stand_in_for_the_password(db):
    """No hint, no secret question: whoever adds a field thinks of that here."""
    assert {field.name for field in User._meta.concrete_fields} == {
        *("id", "username", "email", "email_verified_at", "first_name", "last_name", "language", "password"),
        *("must_change_password", "is_active", "is_staff", "is_superuser", "date_joined", "last_login"),
    }


@pytest.mark.parametrize("superuser", [False, True])
def test_a_user_is_made_if_there_is_none(db, superuser):
    assert user_ensure(username="demo", email="demo@example.com", password="one", reset=True, superuser=superuser)
    user = User.objects.get(username="demo")
    assert (user.is_staff, user.is_superuser) == (superuser, superuser)
    assert user.check_password("one")


@pytest.mark.parametrize(("reset", "password"), [(False, PASSWORD), (True, "two")])
def test_a_user_who_is_there_is_kept_and_the_password_set_only_on_demand(alice, reset, password):
    assert not user_ensure(username="ALICE", email="x@example.com", password="two", reset=reset, superuser=True)
    alice.refresh_from_db()
    assert alice.check_password(password)
    assert (alice.email, alice.is_superuser, User.objects.count()) == ("alice@example.com", False, 1)
