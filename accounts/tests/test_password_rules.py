"""Which passwords people may choose, the same at every door where one is chosen (OWASP ASVS 6.2)."""

from datetime import timedelta

import pytest
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.test import Client
from django.utils import timezone

from accounts.mail_tokens import reset_token
from accounts.models import User
from conftest import PASSWORD
from gateway.tests.expect import fields_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

AUTH, ADMIN = "/api/v2/auth", "/admin/accounts/user/"
CAROL = {"username": "carol", "email": "carol@example.com"}


def _register(api, alice, admin, password):
    return _refusal(api(None).post(f"{AUTH}/register", {**CAROL, "password": password}))


def _reset(api, alice, admin, password):
    alice.refresh_from_db()
    return _refusal(api(None).post(f"{AUTH}/password/reset", {"token": reset_token(alice), "password": password}))


def _change(api, alice, admin, password):
    return _refusal(api(alice).post(f"{AUTH}/password/change", {"current": PASSWORD, "new": password}))


def _create(api, alice, admin, password):
    return _refusal(api(admin).post("/api/v2/users", {**CAROL, "password": password}))


def _create_in_the_admin(api, alice, admin, password):
    return _refusal_of_form(admin, f"{ADMIN}add/", {**CAROL, "password1": password, "password2": password})


def _set_in_the_admin(api, alice, admin, password):
    return _refusal_of_form(admin, f"{ADMIN}{alice.pk}/password/", {"password1": password, "password2": password})


def _change_in_the_admin(api, alice, admin, password):
    given = {"old_password": PASSWORD, "new_password1": password, "new_password2": password}
    return _refusal_of_form(admin, "/admin/password_change/", given)


def _refusal(answer):
    """Return why a password was refused, "" if it was taken."""
    return next(iter(fields_of(answer).values())) if answer.status_code == 400 else ""


def _refusal_of_form(admin, path, given):
    client = Client()
    client.force_login(admin)
    answer = client.post(path, given)
    if answer.status_code == 302:
        return ""
    form = answer.context.get("adminform", answer.context["form"])
    [codes] = [[error.code for error in errors] for errors in getattr(form, "form", form).errors.as_data().values()]
    return codes[0]


DOORS = [_register, _reset, _change, _create, _create_in_the_admin, _set_in_the_admin, _change_in_the_admin]
at_every_door = pytest.mark.parametrize("door", DOORS)


@at_every_door
def test_eight_characters_are_enough_and_seven_are_not(api, alice, admin, door):
    assert door(api, alice, admin, "kX7.wQ2") == "password_too_short"
    assert door(api, alice, admin, "kX7.wQ2!") == ""


@at_every_door
@pytest.mark.parametrize("password", ["password", "1q2w3e4r5t", "QWERTYUIOP"])
def test_a_common_password_is_refused(api, alice, admin, door, password):
    assert door(api, alice, admin, password) == "password_too_common"


def test_the_list_of_common_passwords_has_thousands_that_are_long_enough():
    assert sum(len(password) >= 8 for password in CommonPasswordValidator().passwords) > 3000


@at_every_door
def test_the_gateways_own_words_are_refused(api, alice, admin, door):
    assert door(api, alice, admin, "Alt_Las-2026!") == "password_own_words"


@at_every_door
@pytest.mark.parametrize("password", ["zqvxkjwp", "ZQVXKJWP", "!?.,;:-+", "çğışöüıİ", "🔑🔒🔓🗝🚪🏠🏡🏢"])
def test_one_kind_of_characters_is_enough_if_it_is_not_digits(api, alice, admin, door, password):
    assert door(api, alice, admin, password) == ""


def test_a_long_password_counts_to_its_last_character(api, db):
    password = "".join(chr(0x61 + number * 7 % 26) for number in range(1024))
    assert api(None).post(f"{AUTH}/register", {**CAROL, "password": password}).status_code == 201

    def sign_in(typed):
        return api(None).post(f"{AUTH}/login", {"login": "carol", "password": typed}).status_code

    assert (sign_in(password[:-1] + "!"), sign_in(password[:-1]), sign_in(password)) == (401, 401, 200)


def test_a_password_stays_good_however_old_it_is(api, alice):
    long_ago = timezone.now() - timedelta(days=10 * 365)
    User.objects.filter(pk=alice.pk).update(date_joined=long_ago, last_login=long_ago)
    assert api(alice).get("/api/v2/me").json()["obligations"] == []
