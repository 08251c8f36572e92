"""Users in the admin: found, and what their page leads to."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import DeviceSession, Role, User
from accounts.services.sessions import session_start
from accounts.tests.admin_users.pages import USERS, page_of, staff, values_of
from accounts.tests.people import person_with
from conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]


def listed(client, **query):
    answer = client.get(USERS, query)
    assert answer.status_code == 200
    return [user.username for user in answer.context["cl"].result_list]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["admin", "alice", "old"]),
        ({"is_active__exact": "0"}, ["old"]),
        ({"is_staff__exact": "1"}, ["admin"]),
        ({"role": "operator"}, ["alice", "old"]),
        ({"role": "nothing"}, []),
        ({"verified": "yes"}, ["alice"]),
        ({"verified": "no"}, ["admin", "old"]),
        ({"signed_in": "7"}, ["admin"]),
        ({"signed_in": "30"}, ["admin"]),
        ({"signed_in": "not90"}, ["old"]),
        ({"signed_in": "never"}, ["alice"]),
        ({"signed_in": "x"}, ["admin", "alice", "old"]),
        ({"q": "EXAMPLE.com"}, ["admin", "alice", "old"]),
        ({"q": "ali"}, ["alice"]),
    ],
    ids=str,
)
def test_the_list_is_filtered(client, alice, query, names):
    User.objects.filter(pk=alice.pk).update(email_verified_at=timezone.now())
    old = person_with("old", Role.OPERATOR)
    User.objects.filter(pk=old.pk).update(last_login=timezone.now() - timedelta(days=91), is_active=False)
    assert listed(client, **query) == names


def test_a_user_is_found_by_id(client, alice):
    assert listed(client, q=str(alice.pk)) == ["alice"]


def test_the_list_counts_open_sessions(client, alice):
    for _ in range(3):
        session_start(login="alice", password=PASSWORD)
    DeviceSession.objects.filter(pk=DeviceSession.objects.filter(user=alice).first().pk).update(ended_at=timezone.now())
    rows = client.get(USERS, {"q": "alice"}).context["cl"].result_list
    assert [user.open_sessions for user in rows] == [2]


def test_the_page_leads_to_what_is_the_users_and_only_where_one_may_go(client, alice):
    session_start(login="alice", password=PASSWORD, device_name="phone")
    page = client.get(page_of(alice)).content.decode()
    for path in ("commands/command", "files/storedfile", "accounts/devicesession", "accounts/apikey", "accounts/mail"):
        assert f"/admin/{path}/?user={alice.pk}" in page
    assert f"/admin/accounts/auditentry/?about={alice.pk}" in page
    assert "phone" in page
    page = staff().get(page_of(alice)).content.decode()
    assert f"?user={alice.pk}" not in page
    assert "phone" not in page


def test_a_session_that_ends_meanwhile_does_not_disturb_a_change(client, alice):
    values = {**values_of(client, alice), "first_name": "Alice"}
    values |= {"device_sessions-TOTAL_FORMS": "3", "device_sessions-INITIAL_FORMS": "3"}
    assert client.post(page_of(alice), values).status_code == 302
