"""The admin's door: who gets in, for how long, and what they must do first."""

import re
from datetime import timedelta

import pytest
from django.contrib import admin as django_admin
from django.urls import reverse
from django.utils import timezone

from accounts import sign_in_cache
from accounts.audit import Action
from accounts.models import AuditEntry, DeviceSession, FailedSignIns, Mail, Role, User
from accounts.models.sessions import SessionEnd
from accounts.second_factor import recovery_codes_left
from accounts.services.users import user_sessions_end
from accounts.tests.people import person, signed_in
from accounts.tests.second_factors import add_second_factor, code_of, wrong_code_of
from conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

HOME, LOGIN = "/admin/", "/admin/login/?next=/admin/"
USERS, ADD, ROLES = "/admin/accounts/user/", "/admin/accounts/user/add/", "/admin/accounts/role/"
CHANGE_PASSWORD, SECOND_FACTOR = "/admin/password_change/", "/admin/second-factor/"
NEW_PASSWORD = "another battery, another staple"


def enters(client, path=HOME):
    return client.get(path).status_code == 200


# --- who ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", ["admin", "ADMIN", "admin@example.com", "Admin@Example.com"])
def test_an_administrator_enters_by_user_name_or_address(client, admin, login):
    answer = client.post(LOGIN, {"username": login, "password": PASSWORD}, follow=True)
    assert answer.redirect_chain == [(HOME, 302)]
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("login", "password"), [("alice", PASSWORD), ("admin", "wrong"), ("nobody", PASSWORD), ("admin\0", PASSWORD)]
)
def test_nobody_else_enters(client, admin, alice, login, password):
    answer = client.post(LOGIN, {"username": login, "password": password})
    assert answer.status_code == 200
    assert "errornote" in answer.content.decode()
    assert not enters(client)


def test_a_normal_user_with_a_django_session_is_sent_to_the_login(alice):
    client = signed_in(alice)
    for path in (HOME, USERS, ADD, f"{USERS}{alice.id}/change/", CHANGE_PASSWORD, SECOND_FACTOR, "/admin/search/?s=u"):
        answer = client.get(path)
        assert (answer.status_code, answer["Location"].split("?")[0]) == (302, "/admin/login/")


def test_who_has_the_permission_enters_without_being_staff_and_sees_what_they_may(client):
    person("clerk", "accounts.use_admin_pages", "accounts.view_role")
    assert client.post(LOGIN, {"username": "clerk", "password": PASSWORD})["Location"] == HOME
    page = client.get(HOME).content.decode()
    assert ROLES in page
    assert USERS not in page
    assert enters(client, ROLES)
    assert client.get(USERS).status_code == 403


def test_staff_without_permissions_see_nothing(alice):
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.groups.clear()
    client = signed_in(alice)
    assert "There is nothing here that you may see." in client.get(HOME).content.decode()
    for model in django_admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
        assert client.get(reverse(name)).status_code == 403


@pytest.mark.parametrize("field", ["is_active", "is_staff"])
def test_who_loses_it_is_out_at_once(alice, field, django_capture_on_commit_callbacks):
    alice.is_staff = True
    alice.save()
    client = signed_in(alice)
    assert enters(client)
    setattr(alice, field, False)
    with django_capture_on_commit_callbacks(execute=True):
        alice.save()
    assert not enters(client)


def test_pages_that_show_secrets_are_not_there():
    names = {model.__name__ for model in django_admin.site._registry}
    assert names.isdisjoint({"TOTPDevice", "StaticDevice", "Group", "Session", "LogEntry", "Permission"})


# --- for how long ---------------------------------------------------------------------------------------------------


def test_a_sign_in_to_the_admin_is_one_of_the_devices_and_recorded(client, admin):
    client.post(LOGIN, {"username": "admin", "password": PASSWORD})
    session = DeviceSession.objects.get(user=admin)
    assert (session.device_name, session.address) == ("admin pages", "127.0.0.1")
    assert AuditEntry.objects.get(action=Action.SIGNED_IN).target_id == str(session.id)
    client.get(HOME)
    client.post(f"{USERS}{admin.id}/change/", {})
    assert DeviceSession.objects.count() == 1


def test_who_signs_in_again_in_the_same_browser_has_one_session_and_another_cookie(client, admin):
    cookies = []
    for _ in range(2):
        assert client.post(LOGIN, {"username": "admin", "password": PASSWORD}).status_code == 302
        cookies.append(client.cookies["sessionid"].value)
    first, second = DeviceSession.objects.order_by("created_at")
    assert (first.end_reason, second.ended_at) == (SessionEnd.LOGOUT, None)
    assert cookies[0] != cookies[1]
    assert enters(client)


def test_who_signs_in_where_another_is_signed_in_ends_that_session(client, admin):
    User.objects.create_superuser("boss", "boss@example.com", PASSWORD)
    for name in ("admin", "boss"):
        assert client.post(LOGIN, {"username": name, "password": PASSWORD}).status_code == 302
    assert [session.user.username for session in DeviceSession.objects.filter(ended_at=None)] == ["boss"]
    assert AuditEntry.objects.get(action=Action.SESSION_ENDED).actor_name == "admin"


def test_nobody_is_led_away_by_a_link_to_the_login(client, admin):
    answer = client.post(f"{LOGIN}?next=https://elsewhere.example/", {"username": "admin", "password": PASSWORD})
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, HOME)


def test_who_ends_the_session_ends_the_sign_in(admin, django_capture_on_commit_callbacks):
    client = signed_in(admin)
    assert enters(client)
    with django_capture_on_commit_callbacks(execute=True):
        user_sessions_end(actor=admin, user=admin)
    assert client.get(HOME)["Location"] == LOGIN
    assert "_auth_user_id" not in client.session


def test_a_django_session_without_a_device_opens_nothing(admin):
    client = signed_in(admin)
    session = client.session
    del session["device_session"]
    session.save()
    assert not enters(client)


def test_nobody_comes_in_by_the_session_of_another(admin, alice):
    client = signed_in(alice)
    session = client.session
    session["device_session"] = signed_in(admin).session["device_session"]
    session.save()
    assert not enters(client)


def test_a_sign_in_lasts_twelve_hours_however_busy(client, admin):
    client.post(LOGIN, {"username": "admin", "password": PASSWORD})
    assert client.cookies["sessionid"]["max-age"] == 12 * 3600
    session = DeviceSession.objects.get(user=admin)
    assert abs(session.expires_at - session.created_at - timedelta(hours=12)) < timedelta(minutes=1)
    assert enters(client)
    session.refresh_from_db()
    assert session.expires_at - session.created_at < timedelta(hours=12, minutes=1)
    DeviceSession.objects.update(expires_at=timezone.now())
    sign_in_cache.forget([session.id])
    assert not enters(client)


def test_a_cookie_from_before_the_sign_in_opens_nothing(client, admin):
    """Nobody gives a victim a cookie to sign in with, and comes in by it then."""
    session = client.session
    session["x"] = 1
    session.save()
    planted = session.session_key
    client.cookies["sessionid"] = planted
    client.post(LOGIN, {"username": "admin", "password": PASSWORD})
    assert enters(client)
    own = client.cookies["sessionid"].value
    assert own != planted
    assert re.fullmatch("[a-z0-9]{32}", own)  # 165 bits
    client.cookies["sessionid"] = planted
    assert not enters(client)


def test_the_way_out_is_on_every_page(admin):
    client = signed_in(admin)
    for path in (HOME, USERS, ADD, f"{USERS}{admin.pk}/change/", ROLES, CHANGE_PASSWORD, SECOND_FACTOR):
        assert 'action="/admin/logout/"' in client.get(path).content.decode()


def test_signing_out_ends_the_session(admin):
    client = signed_in(admin)
    client.post("/admin/logout/")
    assert DeviceSession.objects.get(user=admin).end_reason == SessionEnd.LOGOUT
    assert not enters(client)


# --- what first: the password ---------------------------------------------------------------------------------------


@pytest.fixture
def obliged(admin):
    admin.must_change_password = True
    admin.save()
    return signed_in(admin)


def test_who_must_change_the_password_can_do_nothing_else(obliged, alice):
    for path in (HOME, USERS, ADD, "/admin/search/?s=u", SECOND_FACTOR, "/admin/accounts/auditentry/export/"):
        if path != SECOND_FACTOR:
            assert obliged.get(path)["Location"] == CHANGE_PASSWORD, path
    answer = obliged.post(f"{USERS}{alice.id}/delete/", {"confirmed": "yes", "reason": "x"})
    assert answer["Location"] == CHANGE_PASSWORD
    assert User.objects.filter(pk=alice.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_after_the_change_the_pages_are_open(obliged, admin):
    given = {"old_password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    assert obliged.post(CHANGE_PASSWORD, given)["Location"] == "/admin/password_change/done/"
    assert enters(obliged)
    admin.refresh_from_db()
    assert admin.check_password(NEW_PASSWORD)
    assert not admin.must_change_password


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"old_password": "wrong"}, "old_password"),
        ({"old_password": ""}, "old_password"),
        ({"new_password1": PASSWORD, "new_password2": PASSWORD}, "new_password1"),
        ({"new_password1": "1234", "new_password2": "1234"}, "new_password2"),
        ({"new_password2": "x"}, "new_password2"),
    ],
    ids=str,
)
def test_a_change_that_cannot_be_is_refused_with_a_word_about_why(obliged, admin, change, field):
    given = {"old_password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD, **change}
    answer = obliged.post(CHANGE_PASSWORD, given)
    assert list(answer.context["form"].errors) == [field]
    admin.refresh_from_db()
    assert admin.check_password(PASSWORD)


def test_guessing_the_old_password_counts(obliged):
    given = {"old_password": "wrong", "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    obliged.post(CHANGE_PASSWORD, given)
    assert FailedSignIns.objects.get(key__startswith="account:").failures == 1
    FailedSignIns.objects.update(blocked_until=timezone.now() + timedelta(hours=1))
    answer = obliged.post(CHANGE_PASSWORD, {**given, "old_password": PASSWORD})
    assert "Too many attempts" in answer.content.decode()


@pytest.mark.django_db(transaction=True)
def test_changing_the_own_password_signs_out_all_but_oneself(admin, api):
    client, elsewhere = signed_in(admin), api(admin)
    given = {"old_password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    client.post(CHANGE_PASSWORD, given)
    assert enters(client)
    assert elsewhere.get("/api/v2/me").status_code == 401


# --- what first: the second factor, the address ---------------------------------------------------------------------


@pytest.fixture
def required(admin):
    Role.objects.filter(name=Role.ADMIN).update(requires_second_factor=True)
    return signed_in(admin)


@pytest.mark.django_db(transaction=True)
def test_who_needs_a_second_factor_sets_one_up_and_goes_on(required, admin):
    assert required.get(USERS)["Location"] == SECOND_FACTOR
    wrong = required.post(SECOND_FACTOR, {"step": "begin", "password": "wrong"})
    assert "password" in wrong.context["password_form"].errors
    page = required.post(SECOND_FACTOR, {"step": "begin", "password": PASSWORD})
    assert "data:image/svg+xml" in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert required.get(USERS)["Location"] == SECOND_FACTOR
    wrong = required.post(SECOND_FACTOR, {"step": "confirm", "code": wrong_code_of(admin)})
    assert "code" in wrong.context["code_form"].errors
    page = required.post(SECOND_FACTOR, {"step": "confirm", "code": code_of(admin)})
    codes = page.context["recovery_codes"]
    assert len(codes) == recovery_codes_left(admin) == 10
    assert all(code in page.content.decode() for code in codes)
    assert enters(required, USERS)
    assert codes[0] not in required.get(SECOND_FACTOR).content.decode()


def test_new_recovery_codes_and_removal_need_both_factors(admin):
    old = add_second_factor(admin)
    client = signed_in(admin)
    for proof in ({"password": "wrong", "code": code_of(admin)}, {"password": PASSWORD, "code": "x"}, {}):
        for step in ("codes", "remove"):
            assert client.post(SECOND_FACTOR, {"step": step, **proof}).context["both_form"].errors
    assert recovery_codes_left(admin) == len(old)
    answer = client.post(SECOND_FACTOR, {"step": "codes", "password": PASSWORD, "code": code_of(admin)})
    assert set(answer.context["recovery_codes"]).isdisjoint(old)
    answer = client.post(SECOND_FACTOR, {"step": "remove", "password": PASSWORD, "code": code_of(admin)})
    assert not answer.context["is_on"]


@pytest.mark.parametrize("step", ["", "x", "confirm", "codes"])
def test_a_step_out_of_turn_does_nothing(admin, step):
    answer = signed_in(admin).post(SECOND_FACTOR, {"step": step, "password": PASSWORD, "code": "123456"})
    assert answer.status_code == 200
    assert not answer.context["is_on"]


def test_who_must_verify_the_address_gets_another_mail(admin, settings):
    settings.EMAIL_VERIFICATION_REQUIRED = True
    client = signed_in(admin)
    page = client.get(USERS, follow=True)
    assert page.redirect_chain == [("/admin/email-verification/", 302)]
    assert admin.email in page.content.decode()
    client.post("/admin/email-verification/")
    assert Mail.objects.filter(user=admin).exists()


# --- password managers ----------------------------------------------------------------------------------------------


def test_what_is_typed_as_a_password_is_hidden_and_can_be_pasted_or_filled_in(client, admin, alice):
    inside = signed_in(admin)
    pages = {
        LOGIN: (client, {"password": "current-password"}),
        CHANGE_PASSWORD: (inside, {"old_password": "current-password", "new_password1": "new-password"}),
        SECOND_FACTOR: (inside, {"password": "current-password"}),
        ADD: (inside, {"password1": "new-password", "password2": "new-password"}),
        f"{USERS}{alice.pk}/password/": (inside, {"password1": "new-password", "password2": "new-password"}),
    }
    for path, (visitor, fields) in pages.items():
        page = visitor.get(path).content.decode()
        assert "onpaste" not in page
        inputs = {re.search(r'name="(\w+)"', tag)[1]: tag for tag in re.findall(r'<input[^>]+name="\w+"[^>]*>', page)}
        for name, helper in fields.items():
            assert 'type="password"' in inputs[name]
            assert f'autocomplete="{helper}"' in inputs[name]
        assert all(
            'type="password"' in tag
            for name, tag in inputs.items()
            if "password" in name and name != "must_change_password"
        )


# --- odds and ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["s=u&page=x", "s=u&page=99", "s=\0", "s=" + "x" * 3000, "", "s=user&extended=1"])
def test_no_search_for_a_list_breaks(admin_client, query):
    assert admin_client.get(f"/admin/search/?{query}").status_code == 200


def test_one_may_switch_to_turkish(admin_client):
    answer = admin_client.post("/admin/i18n/setlang/", {"language": "tr", "next": HOME})
    assert answer["Location"] == HOME
    assert 'lang="tr"' in admin_client.get(HOME).content.decode()


def test_the_first_page_shows_figures_to_whom_they_concern(admin_client, admin_user):
    page = admin_client.get(HOME)
    assert {str(figure["title"]): figure["text"] for figure in page.context["figures"]}["open sessions"] == "1"
    assert [entry.action for entry in page.context["recent"]] == ["signed_in"]
    clerk = signed_in(person("clerk", "accounts.use_admin_pages", "commands.view_command")).get(HOME)
    assert {figure["url"].split("?")[0] for figure in clerk.context["figures"]} == {"/admin/commands/command/"}
    assert clerk.context["recent"] == []
