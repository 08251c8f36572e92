"""Users in the admin: found, made, changed, and acted upon, by whom that is allowed and nobody else."""

from datetime import timedelta

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.utils import timezone

from accounts.audit import Action
from accounts.models import AuditEntry, DeviceSession, FailedSignIns, Role, User
from accounts.permissions import permissions_named
from accounts.second_factor import has_second_factor
from accounts.services import failed_sign_ins
from accounts.services.sessions import session_start
from accounts.tests import people
from accounts.tests.people import person_with, signed_in
from accounts.tests.second_factors import add_second_factor
from conftest import PASSWORD
from gateway.admin import confirmation
from tests.rows import ended_command

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

USERS, ADD = "/admin/accounts/user/", "/admin/accounts/user/add/"
WHY = "as the ticket says"
NEW = {
    "username": "carol",
    "email": "carol@example.com",
    "password1": "a long new password",
    "password2": "a long new password",
}


@pytest.fixture
def client(admin):
    return signed_in(admin)


def staff(*permissions, name="clerk"):
    """A client of somebody who may use the admin, see users, and do just this."""
    return people.staff("accounts.view_user", *permissions, name=name)


def page_of(user):
    return f"{USERS}{user.pk}/change/"


def values_of(client, user):
    """What a browser would send if nothing was changed on a user's page."""
    form = client.get(page_of(user)).context["adminform"].form
    return {
        name: [getattr(each, "pk", each) for each in value] if isinstance(value, list) else value
        for name, value in form.initial.items()
        if value not in (None, False, [])
    }


def said(answer):
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def errors(answer):
    return answer.context["adminform"].form.errors


def entry(action):
    return AuditEntry.objects.get(action=action)


# --- made -----------------------------------------------------------------------------------------------------------


def test_an_administrator_adds_a_user_who_can_then_sign_in(client, api, admin):
    roles = Role.objects.filter(name=Role.OPERATOR)
    assert list(client.get(ADD).context["adminform"].form.initial["roles"]) == list(roles)
    assert client.post(ADD, {**NEW, "roles": [role.pk for role in roles]}).status_code == 302
    carol = User.objects.get(username="carol")
    assert carol.email == "carol@example.com"
    assert [group.name for group in carol.groups.all()] == ["operator"]
    made = entry(Action.USER_CREATED)
    assert (made.actor_id, made.target_id) == (admin.pk, str(carol.pk))
    body = {"login": "carol", "password": NEW["password1"]}
    assert api(None).post("/api/v2/auth/login", body).status_code == 200


def test_the_first_password_can_be_for_once(client):
    client.post(ADD, {**NEW, "must_change_password": "on"})
    assert User.objects.get(username="carol").must_change_password


@pytest.mark.parametrize(
    "change",
    [
        {"username": "ALICE"},
        {"username": "carol@example.com"},
        {"username": "саrоl"},  # noqa: RUF001 - look-alikes are the point
        {"username": ""},
        {"username": "x" * 151},
        {"username": "carol\0"},
        {"email": "ALICE@example.com"},
        {"email": "not an address"},
        {"email": ""},
        {"password2": "something else"},
        {"password1": "1234", "password2": "1234"},
        {"password1": "", "password2": ""},
        {"roles": ["0"]},
        {"roles": ["x"]},
    ],
    ids=str,
)
def test_a_user_who_cannot_be_is_refused_with_a_word_about_why(client, alice, change):
    answer = client.post(ADD, {**NEW, **change})
    assert answer.status_code == 200
    assert errors(answer)
    assert not User.objects.filter(email="carol@example.com").exists()


def test_without_the_right_to_assign_roles_a_new_user_is_an_operator(admin):
    clerk = staff("accounts.add_user", "accounts.change_user", "commands.read_own_command", *operators())
    role = Role.objects.get(name=Role.ADMIN)
    assert clerk.post(ADD, {**NEW, "roles": [role.pk], "is_superuser": "on"}).status_code == 302
    carol = User.objects.get(username="carol")
    assert [group.name for group in carol.groups.all()] == ["operator"]
    assert not carol.is_superuser


def operators():
    return sorted(person_with("someone", Role.OPERATOR).get_all_permissions())


def test_nobody_makes_somebody_who_may_do_more(admin):
    clerk = staff("accounts.add_user", "accounts.change_user", "accounts.assign_role", *operators())
    answer = clerk.post(ADD, {**NEW, "roles": [Role.objects.get(name=Role.ADMIN).pk]})
    assert "You can give and take only what you have yourself." in str(errors(answer))
    assert not User.objects.filter(username="carol").exists()


# --- changed --------------------------------------------------------------------------------------------------------


def test_a_change_goes_on_record_with_its_reason(client, admin, alice):
    values = {**values_of(client, alice), "email": "new@example.com", "first_name": "Alice", "reason": WHY}
    assert client.post(page_of(alice), values).status_code == 302
    alice.refresh_from_db()
    assert (alice.email, alice.first_name) == ("new@example.com", "Alice")
    changed = entry(Action.USER_CHANGED)
    assert (changed.actor_id, changed.reason) == (admin.pk, WHY)
    assert changed.changes["email"] == ["alice@example.com", "new@example.com"]


def test_saving_without_a_change_does_nothing(client, alice):
    assert client.post(page_of(alice), values_of(client, alice)).status_code == 302
    assert not AuditEntry.objects.filter(action=Action.USER_CHANGED).exists()


@pytest.mark.django_db(transaction=True)
def test_an_administrator_can_deactivate_a_user_whose_tokens_then_open_nothing(client, alice, api):
    there = api(alice)
    values = values_of(client, alice)
    assert client.post(page_of(alice), {**values, "is_active": ""}).status_code == 302
    assert there.get("/api/v2/me").status_code == 401


@pytest.mark.django_db(transaction=True)
def test_roles_given_on_the_page_count_at_once(client, alice, api):
    there = api(alice)
    assert there.get("/api/v2/users").status_code == 403
    roles = [Role.objects.get(name=name).pk for name in (Role.OPERATOR, Role.ADMIN)]
    client.post(page_of(alice), {**values_of(client, alice), "roles": roles, "reason": WHY})
    assert there.get("/api/v2/users").status_code == 200
    assert entry(Action.USER_ROLES_CHANGED).reason == WHY


def test_the_last_administrator_stays(client, admin):
    values = values_of(client, admin)
    for change in ({"is_active": ""}, {"is_superuser": "", "roles": []}):
        answer = client.post(page_of(admin), {**values, **change})
        assert answer.status_code == 200
        assert errors(answer)
    assert "Nobody would be left" in str(errors(client.post(page_of(admin), {**values, "is_active": ""})))
    admin.refresh_from_db()
    assert admin.is_active
    assert admin.is_superuser


def test_what_is_typed_is_not_lost_when_a_service_refuses(client, admin):
    answer = client.post(page_of(admin), {**values_of(client, admin), "first_name": "Ada", "is_active": ""})
    assert 'value="Ada"' in answer.content.decode()


def test_nobody_changes_somebody_who_may_do_more(admin):
    clerk = staff("accounts.change_user")
    answer = clerk.post(page_of(admin), {**values_of(clerk, admin), "email": "mine@example.com"})
    assert "You can change only users who may do no more than you." in str(errors(answer))
    admin.refresh_from_db()
    assert admin.email == "admin@example.com"


def test_only_superusers_make_superusers_and_give_single_permissions(admin):
    bob = person_with("bob")
    clerk, view = staff("accounts.change_user", "accounts.assign_role"), permissions_named(["accounts.view_role"])
    more = {"is_staff": "on", "is_superuser": "on", "user_permissions": [each.pk for each in view]}
    clerk.post(page_of(bob), {**values_of(clerk, bob), **more, "first_name": "Bob"})
    bob.refresh_from_db()
    assert (bob.is_staff, bob.is_superuser, bob.first_name) == (False, False, "Bob")
    assert not bob.user_permissions.exists()
    client = signed_in(admin)
    client.post(page_of(bob), {**values_of(client, bob), **more, "reason": WHY})
    bob.refresh_from_db()
    assert (bob.is_staff, bob.is_superuser) == (True, True)
    assert list(bob.user_permissions.all()) == view
    assert AuditEntry.objects.filter(reason=WHY, changes__has_key="user_permissions").count() == 1


def test_who_may_only_look_changes_nothing(alice):
    clerk = staff()
    page = clerk.get(page_of(alice))
    assert page.status_code == 200
    assert "Set another password" not in page.content.decode()
    assert clerk.post(page_of(alice), {"username": "x"}).status_code == 403
    assert clerk.get(ADD).status_code == clerk.post(ADD, NEW).status_code == 403
    assert clerk.get(f"{USERS}{alice.pk}/delete/").status_code == 403
    assert clerk.get(f"{USERS}{alice.pk}/password/").status_code == 403


def test_roles_are_not_given_without_the_right_to(admin):
    bob = person_with("bob")
    clerk = staff("accounts.change_user")
    role = Role.objects.get(name=Role.VIEWER)
    assert clerk.post(page_of(bob), {**values_of(clerk, bob), "roles": [role.pk]}).status_code == 302
    assert not bob.groups.exists()


# --- password -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_new_password_ends_the_sessions_and_can_be_for_once(client, admin, alice, api):
    there = api(alice)
    given = {"password1": NEW["password1"], "password2": NEW["password2"], "must_change_password": "on"}
    answer = client.post(f"{USERS}{alice.pk}/password/", given)
    assert answer["Location"] == page_of(alice)
    alice.refresh_from_db()
    assert alice.check_password(NEW["password1"])
    assert alice.must_change_password
    assert there.get("/api/v2/me").status_code == 401
    assert entry(Action.PASSWORD_CHANGED).actor_id == admin.pk


@pytest.mark.django_db(transaction=True)
def test_whose_own_it_is_stays(client, admin):
    given = {"password1": NEW["password1"], "password2": NEW["password2"], "must_change_password": "on"}
    client.post(f"{USERS}{admin.pk}/password/", given)
    assert client.get(USERS).status_code == 200


@pytest.mark.parametrize(
    "given", [{}, {"password1": "1234", "password2": "1234"}, {"password1": "a long one"}], ids=str
)
def test_a_password_that_cannot_be_is_refused(client, alice, given):
    answer = client.post(f"{USERS}{alice.pk}/password/", given)
    assert answer.context["form"].errors
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_nobody_sets_the_password_of_somebody_who_may_do_more(admin):
    given = {"password1": NEW["password1"], "password2": NEW["password2"]}
    answer = staff("accounts.change_user").post(f"{USERS}{admin.pk}/password/", given)
    assert "You can change only users who may do no more than you." in answer.content.decode()
    admin.refresh_from_db()
    assert admin.check_password(PASSWORD)


# --- deleted --------------------------------------------------------------------------------------------------------


def test_a_user_is_deleted_with_all_that_is_theirs_and_a_reason(client, alice):
    ended_command(alice)
    path = f"{USERS}{alice.pk}/delete/"
    assert "alice" in client.get(path).content.decode()
    client.post(path, {"confirmed": "yes"})
    client.post(path, {"post": "yes"})
    assert User.objects.filter(pk=alice.pk).exists()
    assert client.post(path, {"confirmed": "yes", "reason": WHY})["Location"] == USERS
    assert not User.objects.filter(pk=alice.pk).exists()
    assert entry(Action.USER_DELETED).reason == WHY


def test_the_last_administrator_is_not_deleted(client, admin):
    answer = client.post(f"{USERS}{admin.pk}/delete/", {"confirmed": "yes", "reason": WHY})
    assert "Nobody would be left" in said(answer)
    assert User.objects.filter(pk=admin.pk).exists()


def test_what_is_not_there_is_not_found(client):
    for path in ("change", "delete", "password", "unlock", "end-sessions", "reset-second-factor"):
        for wrong in ("x", "00000000-0000-7000-8000-000000000000"):
            assert client.get(f"{USERS}{wrong}/{path}/").status_code in (302, 404)


# --- acts -----------------------------------------------------------------------------------------------------------


def role(name):
    return Role.objects.get(name=name)


ACTS = {
    "deactivate": ("accounts.change_user", lambda user: not user.is_active),
    "activate": ("accounts.change_user", lambda user: user.is_active),
    "force_password_change": ("accounts.change_user", lambda user: user.must_change_password),
    "assign_role": ("accounts.assign_role", lambda user: role("viewer").pk in user.groups.values_list("pk", flat=True)),
    "remove_role": ("accounts.assign_role", lambda user: not user.groups.exists()),
    "end_sessions": ("accounts.end_session", lambda user: not user.device_sessions.filter(ended_at=None).exists()),
    "unlock": ("accounts.unlock_user", lambda user: not FailedSignIns.objects.filter(failures_of(user)).exists()),
}
each_act = pytest.mark.parametrize("name", ACTS)


def failures_of(user):
    return failed_sign_ins.failures_of(user)


@pytest.fixture
def two():
    """Two users to whom each of the acts would make a difference, but activation."""
    users = [person_with(name, Role.OPERATOR) for name in ("ann", "ben")]
    for user in users:
        session_start(login=user.username, password=PASSWORD)
        failed_sign_ins.failed(failed_sign_ins.check(user.username))
    return users


def chosen(name, users, **given):
    more = {"role": role("operator" if name == "remove_role" else "viewer").pk} if name.endswith("_role") else {}
    return {"action": name, "_selected_action": [str(user.pk) for user in users], **more, **given}


def undo(name, users):
    if name == "activate":
        User.objects.filter(pk__in=[user.pk for user in users]).update(is_active=False)


def done(name, users):
    return [ACTS[name][1](User.objects.get(pk=user.pk)) for user in users]


@each_act
def test_an_act_on_many_is_confirmed_with_a_reason_and_recorded(client, two, name):
    undo(name, two)
    page = client.post(USERS, chosen(name, two))
    assert [row.username for row in page.context["rows"]] == ["ann", "ben"]
    page = client.post(USERS, chosen(name, two, confirmed="yes", reason=" "))
    assert "reason" in page.context["form"].errors
    assert done(name, two) == [False, False]
    answer = client.post(USERS, chosen(name, two, confirmed="yes", reason=WHY))
    assert answer.status_code == 302
    assert said(answer) == "Done for 2."
    assert done(name, two) == [True, True]
    assert AuditEntry.objects.filter(reason=WHY).count() >= len(two)


@each_act
def test_an_act_needs_its_permission(two, alice, name):
    undo(name, two)
    others = {permission for permission, _done in ACTS.values()} - {ACTS[name][0]}
    sure = chosen(name, two, confirmed="yes", reason=WHY)
    for client in (Client(), signed_in(alice), staff(), staff(*others, name="other")):
        client.post(USERS, sure)
        assert done(name, two) == [False, False]


@each_act
def test_an_act_is_done_by_who_has_its_permission(two, name):
    undo(name, two)
    clerk = staff(ACTS[name][0], *two[0].get_all_permissions(), *operators())
    clerk.post(USERS, chosen(name, two, confirmed="yes", reason=WHY))
    assert done(name, two) == [True, True]


@each_act
def test_an_act_on_somebody_who_may_do_more_is_refused_and_the_others_go_on(admin, two, name):
    undo(name, two)
    clerk = staff(ACTS[name][0], *operators())
    answer = clerk.post(USERS, chosen(name, [admin, *two], confirmed="yes", reason=WHY))
    assert done(name, two) == [True, True]
    if name != "unlock":  # which takes nothing from anybody
        assert "admin: You can change only users who may do no more than you." in said(answer)
        assert not AuditEntry.objects.filter(reason=WHY, target_id=str(admin.pk)).exists()


def test_a_role_that_one_does_not_have_cannot_be_given(two):
    clerk = staff("accounts.assign_role", *operators())
    sure = chosen("assign_role", two, confirmed="yes", reason=WHY) | {"role": role("admin").pk}
    assert "You can give and take only what you have yourself." in said(clerk.post(USERS, sure))
    assert "role" in clerk.post(USERS, sure | {"role": "x"}).context["form"].errors


def test_too_many_at_once_are_refused(client, two, monkeypatch):
    monkeypatch.setattr(confirmation, "MOST", 1)
    answer = client.post(USERS, chosen("deactivate", two, confirmed="yes", reason=WHY))
    assert "at most 1" in said(answer)
    assert done("deactivate", two) == [False, False]


@pytest.mark.parametrize("ids", [["x"], ["00000000-0000-7000-8000-000000000000"], ["\0"], []], ids=str)
def test_a_choice_of_nobody_does_nothing(client, ids):
    data = {"action": "deactivate", "_selected_action": ids, "confirmed": "yes", "reason": WHY}
    assert client.post(USERS, data).status_code in (200, 302)
    assert not AuditEntry.objects.filter(reason=WHY).exists()


@pytest.mark.parametrize(("path", "name"), [("end-sessions", "end_sessions"), ("unlock", "unlock")])
def test_an_act_on_one_from_their_page(client, two, alice, path, name):
    url, sure = f"{USERS}{two[0].pk}/{path}/", {"confirmed": "yes", "reason": WHY}
    for other in (Client(), signed_in(alice), staff()):
        other.post(url, sure)
    assert staff(name="other").post(url, sure).status_code == 403
    assert done(name, two) == [False, False]
    assert client.get(url).status_code == 200
    assert client.post(url, sure)["Location"] == page_of(two[0])
    assert done(name, two) == [True, False]


def test_a_lost_second_factor_is_reset(client, alice, admin):
    add_second_factor(alice)
    url, sure = f"{USERS}{alice.pk}/reset-second-factor/", {"confirmed": "yes", "reason": WHY}
    assert staff().post(url, sure).status_code == 403
    assert has_second_factor(alice)
    client.post(url, sure)
    assert not has_second_factor(alice)
    assert entry(Action.SECOND_FACTOR_REMOVED).reason == WHY
    assert "There is nothing here" in said(client.post(url, sure))


# --- found ----------------------------------------------------------------------------------------------------------


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
