"""Users in the admin: made, changed and deleted, by whom that is allowed and nobody else."""

import pytest

from accounts.audit import Action
from accounts.models import AuditEntry, Role, User
from accounts.permissions import permissions_named
from accounts.tests.admin_users.pages import (
    ADD,
    NEW,
    USERS,
    WHY,
    entry,
    errors,
    operators,
    page_of,
    said,
    staff,
    values_of,
)
from accounts.tests.people import person_with, signed_in
from conftest import PASSWORD
from tests.rows import ended_command

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]


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
