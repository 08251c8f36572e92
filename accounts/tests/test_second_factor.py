"""The second factor: set up, required, lost, kept secret. Its codes: test_second_factor_codes.py."""

import re
from base64 import b32decode
from datetime import timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from django.db.models import F
from django.test import RequestFactory
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.audit import Action
from accounts.forms import AdminLoginForm
from accounts.models import AuditEntry, DeviceSession, FailedSignIns, Mail
from accounts.models.mail import MailKind
from accounts.second_factor import has_second_factor
from accounts.services.second_factor import second_factor_reset
from accounts.tests.people import client_with_key, person, role_with
from accounts.tests.second_factors import add_second_factor, code_of, no_delay, wrong_code_of
from conftest import PASSWORD
from gateway.api.errors import ApiError, ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

LOGIN = "/api/v2/auth/login"
MINE = "/api/v2/me/second-factor"
CONFIRM, RECOVERY = f"{MINE}/confirm", f"{MINE}/recovery-codes"
HERE = "198.51.100.7"


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("at", "pk").values_list("action", flat=True))


# --- set up -----------------------------------------------------------------------------------------------------------


def test_from_nothing_to_a_second_factor_and_back(signed_in, alice, sign_in):
    assert signed_in.get(MINE).json() == {"state": "none", "recovery_codes_left": 0}
    enrolment = signed_in.post(MINE, {"password": PASSWORD}).json()
    assert enrolment.keys() == {"secret", "uri", "qr"}
    assert signed_in.get(MINE).json() == {"state": "pending", "recovery_codes_left": 0}
    assert sign_in().status_code == 200  # it is not asked for yet

    answer = signed_in.post(CONFIRM, {"code": f"{totp(b32decode(enrolment['secret'])):06}"})
    assert answer.status_code == 200
    recovery_codes = answer.json()["recovery_codes"]
    assert len(set(recovery_codes)) == 10
    assert all(re.fullmatch(r"[a-z2-7]{4}(-[a-z2-7]{4}){5}", code) for code in recovery_codes)
    assert signed_in.get(MINE).json() == {"state": "on", "recovery_codes_left": 10}
    problem_of(sign_in(), ErrorCode.SECOND_FACTOR_REQUIRED)
    assert sign_in(code=code_of(alice)).status_code == 200

    assert signed_in.delete(MINE, {"password": PASSWORD, "code": code_of(alice)}).status_code == 204
    assert signed_in.get(MINE).json() == {"state": "none", "recovery_codes_left": 0}
    assert sign_in().status_code == 200
    assert not TOTPDevice.objects.exists()
    assert not StaticDevice.objects.exists()
    done = [action for action in actions() if action.startswith("second_factor")]
    assert done == [Action.SECOND_FACTOR_ADDED, Action.SECOND_FACTOR_REMOVED]
    assert Mail.objects.filter(kind=MailKind.SECOND_FACTOR_CHANGED, user=alice).count() == 2


def test_the_app_gets_all_it_needs(signed_in, alice):
    enrolment = signed_in.post(MINE, {"password": PASSWORD}).json()
    uri = urlsplit(enrolment["uri"])
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/ALT_LAS:alice")
    assert parse_qs(uri.query)["secret"] == [enrolment["secret"]]
    assert len(b32decode(enrolment["secret"])) == 20
    assert enrolment["qr"].startswith("data:image/svg+xml")


def test_only_the_last_secret_counts(signed_in):
    first, second = (signed_in.post(MINE, {"password": PASSWORD}).json()["secret"] for _ in range(2))
    assert fields_of(signed_in.post(CONFIRM, {"code": f"{totp(b32decode(first)):06}"})) == {"code": "invalid"}
    assert signed_in.post(CONFIRM, {"code": f"{totp(b32decode(second)):06}"}).status_code == 200


def test_a_secret_has_to_be_confirmed_soon(signed_in, alice):
    signed_in.post(MINE, {"password": PASSWORD})
    code = code_of(alice)
    TOTPDevice.objects.update(created_at=F("created_at") - timedelta(minutes=15))
    problem_of(signed_in.post(CONFIRM, {"code": code}), ErrorCode.NOT_FOUND)
    assert signed_in.get(MINE).json()["state"] == "none"


def test_there_is_one_second_factor_and_nobody_replaces_it_by_the_way(signed_in, codes):
    problem_of(signed_in.post(MINE, {"password": PASSWORD}), ErrorCode.SECOND_FACTOR_EXISTS)
    problem_of(signed_in.post(CONFIRM, {"code": "123456"}), ErrorCode.SECOND_FACTOR_EXISTS)


def test_without_one_there_is_nothing_to_confirm_to_renew_or_to_remove(signed_in):
    proof = {"password": PASSWORD, "code": "123456"}
    problem_of(signed_in.post(CONFIRM, {"code": "123456"}), ErrorCode.NOT_FOUND)
    problem_of(signed_in.post(RECOVERY, proof), ErrorCode.NOT_FOUND)
    problem_of(signed_in.delete(MINE, proof), ErrorCode.NOT_FOUND)


def test_a_wrong_code_confirms_nothing(signed_in, alice, sign_in):
    signed_in.post(MINE, {"password": PASSWORD})
    assert fields_of(signed_in.post(CONFIRM, {"code": wrong_code_of(alice)})) == {"code": "invalid"}
    assert signed_in.get(MINE).json() == {"state": "pending", "recovery_codes_left": 0}
    assert sign_in().status_code == 200


def test_a_secret_cannot_be_confirmed_by_guessing(signed_in, alice):
    signed_in.post(MINE, {"password": PASSWORD})
    for _ in range(5):
        signed_in.post(CONFIRM, {"code": wrong_code_of(alice)})
    problem_of(signed_in.post(CONFIRM, {"code": code_of(alice)}), ErrorCode.TOO_MANY_ATTEMPTS)
    no_delay()
    assert signed_in.post(CONFIRM, {"code": code_of(alice)}).status_code == 200


def test_wrong_codes_of_who_is_signed_in_are_recorded_and_their_owner_is_told(signed_in, alice, codes):
    for _ in range(5):
        no_delay()
        answer = signed_in.delete(MINE, {"password": PASSWORD, "code": wrong_code_of(alice)})
        assert fields_of(answer) == {"code": "invalid"}
    assert AuditEntry.objects.filter(action=Action.SECOND_FACTOR_FAILED, target_id=str(alice.id)).count() == 5
    assert AuditEntry.objects.filter(action=Action.SIGN_INS_BLOCKED, target_id=str(alice.id)).count() == 1
    assert Mail.objects.filter(kind=MailKind.SIGN_INS_FAILED, address=alice.email).count() == 1


def test_new_recovery_codes_replace_the_old_ones(signed_in, alice, codes, sign_in):
    answer = signed_in.post(RECOVERY, {"password": PASSWORD, "code": code_of(alice)})
    assert answer.status_code == 200
    new = answer.json()["recovery_codes"]
    assert len(new) == 10
    assert not set(new) & set(codes)
    problem_of(sign_in(code=codes[0]), ErrorCode.SECOND_FACTOR_INVALID)
    assert sign_in(code=new[0]).status_code == 200
    assert Action.RECOVERY_CODES_MADE in actions()
    assert Mail.objects.filter(kind=MailKind.SECOND_FACTOR_CHANGED, user=alice).exists()


@pytest.mark.parametrize(("method", "path"), [("post", RECOVERY), ("delete", MINE)])
def test_a_change_is_proved_with_both_factors(signed_in, alice, codes, method, path):
    call = getattr(signed_in, method)
    good = code_of(alice)
    wrong = {"password": "wrong", "code": good}
    assert fields_of(call(path, wrong)) == {"password": "invalid"}
    assert fields_of(call(path, {"password": PASSWORD, "code": wrong_code_of(alice)})) == {"code": "invalid"}
    assert signed_in.get(MINE).json() == {"state": "on", "recovery_codes_left": 10}
    assert call(path, {"password": PASSWORD, "code": codes[3]}).status_code in (200, 204)


def test_a_wrong_password_begins_nothing_and_guessing_it_is_limited(signed_in):
    for _ in range(5):
        assert fields_of(signed_in.post(MINE, {"password": "wrong"})) == {"password": "invalid"}
    problem_of(signed_in.post(MINE, {"password": PASSWORD}), ErrorCode.TOO_MANY_ATTEMPTS)
    assert not TOTPDevice.objects.exists()


ENDPOINTS = [("get", MINE), ("post", MINE), ("delete", MINE), ("post", CONFIRM), ("post", RECOVERY)]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_a_stranger_has_to_sign_in_and_an_api_key_cannot_do_it(api, admin, method, path):
    problem_of(getattr(api(None), method)(path), ErrorCode.NOT_AUTHENTICATED)
    key = client_with_key(admin, "accounts.manage_own_apikey")
    problem_of(getattr(key, method)(path), ErrorCode.DEVICE_SESSION_REQUIRED)


def test_each_has_their_own(api, codes, alice, bob, admin):
    for other in (bob, admin):
        client = api(other)
        assert client.get(MINE).json() == {"state": "none", "recovery_codes_left": 0}
        problem_of(client.delete(MINE, {"password": PASSWORD, "code": codes[0]}), ErrorCode.NOT_FOUND)
        add_second_factor(other)
        assert fields_of(client.delete(MINE, {"password": PASSWORD, "code": codes[0]})) == {"code": "invalid"}
        assert fields_of(client.delete(MINE, {"password": PASSWORD, "code": code_of(alice)})) == {"code": "invalid"}
    assert has_second_factor(alice)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (7, "invalid"),
        (123456, "invalid"),
        (None, "null"),
        ("", "blank"),
        ([], "invalid"),
        ({}, "invalid"),
        ("x" * 2000, "max_length"),
        ("a\0", "null_characters_not_allowed"),
        ("\ud800", "surrogate_characters_not_allowed"),
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize(
    ("method", "path", "field"),
    [("post", MINE, "password"), ("delete", MINE, "password"), ("delete", MINE, "code"), ("post", CONFIRM, "code"),
     ("post", RECOVERY, "password"), ("post", RECOVERY, "code"), ("post", LOGIN, "code")],
)  # fmt: skip
def test_a_value_that_cannot_be_is_named(signed_in, method, path, field, value, error):
    fields = {MINE: ("password",), CONFIRM: ("code",), LOGIN: ("login", "password", "code")}.get(path)
    fields = ("password", "code") if method == "delete" or fields is None else fields
    given = {**dict.fromkeys(fields, "x"), field: value}
    assert fields_of(getattr(signed_in, method)(path, **escaped_json(given))) == {field: error}
    assert fields_of(getattr(signed_in, method)(path, {**dict.fromkeys(fields, "x"), "user": 1})) == {
        "user": "unknown_field"
    }


# --- required ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_role_can_require_it_and_then_nothing_else_can_be_done_before(api, alice, sign_in):
    client = api(alice)
    assert client.get("/api/v2/commands").status_code == 200
    role = role_with("careful")
    alice.groups.add(role)
    role.requires_second_factor = True
    role.save()
    for method, path in (
        ("get", "/api/v2/commands"),
        ("post", "/api/v2/commands"),
        ("post", "/api/v2/realtime/ticket"),
    ):
        problem_of(getattr(client, method)(path), ErrorCode.SECOND_FACTOR_SETUP_REQUIRED)
    assert client.get("/api/v2/me").status_code == 200
    assert sign_in().status_code == 200

    assert client.get(MINE).status_code == 200
    assert client.post(MINE, {"password": PASSWORD}).status_code == 200
    problem_of(client.get("/api/v2/commands"), ErrorCode.SECOND_FACTOR_SETUP_REQUIRED)
    assert client.post(CONFIRM, {"code": code_of(alice)}).status_code == 200
    assert client.get("/api/v2/commands").status_code == 200

    assert client.delete(MINE, {"password": PASSWORD, "code": code_of(alice)}).status_code == 204
    problem_of(client.get("/api/v2/commands"), ErrorCode.SECOND_FACTOR_SETUP_REQUIRED)


@pytest.mark.django_db(transaction=True)
def test_a_role_that_is_inherited_requires_it_too_and_others_are_not_concerned(api, alice, bob):
    parent = role_with("careful")
    parent.requires_second_factor = True
    parent.save()
    alice.groups.add(role_with("heir", parent=parent))
    problem_of(api(alice).get("/api/v2/commands"), ErrorCode.SECOND_FACTOR_SETUP_REQUIRED)
    assert api(bob).get("/api/v2/commands").status_code == 200


# --- lost -------------------------------------------------------------------------------------------------------------


def test_an_administrator_removes_what_a_user_has_lost(sign_in, codes, alice, admin):
    second_factor_reset(actor=admin, user=alice, reason="phone lost, called back")
    assert sign_in().status_code == 200
    assert not StaticToken.objects.exists()
    [entry] = AuditEntry.objects.filter(action=Action.SECOND_FACTOR_REMOVED)
    assert (entry.actor_id, entry.target_id) == (admin.pk, str(alice.pk))
    assert entry.reason == "phone lost, called back"
    assert Mail.objects.filter(kind=MailKind.SECOND_FACTOR_CHANGED, user=alice).exists()


def test_nobody_removes_the_second_factor_of_who_may_do_more(admin):
    add_second_factor(admin)
    support = person("support", "accounts.change_user", "accounts.view_user")
    with pytest.raises(ApiError) as refusal:
        second_factor_reset(actor=support, user=admin, reason="please")
    assert refusal.value.error_code == ErrorCode.PERMISSION_DENIED
    assert has_second_factor(admin)


def test_there_may_be_nothing_to_remove(alice, admin):
    with pytest.raises(ApiError) as refusal:
        second_factor_reset(actor=admin, user=alice)
    assert refusal.value.error_code == ErrorCode.NOT_FOUND
    assert not AuditEntry.objects.filter(action=Action.SECOND_FACTOR_REMOVED).exists()


# --- the admin pages --------------------------------------------------------------------------------------------------


def admin_form(code: str, username: str = "admin", password: str = PASSWORD) -> AdminLoginForm:
    data = {"username": username, "password": password, "code": code}
    return AdminLoginForm(RequestFactory().post("/admin/login/"), data)


def test_the_door_of_the_admin_pages_asks_for_the_code_too(admin):
    add_second_factor(admin)
    assert admin_form("").has_error("__all__", "second_factor_required")
    assert admin_form(wrong_code_of(admin)).has_error("__all__", "second_factor_invalid")
    code = code_of(admin)
    form = admin_form(code)
    assert form.is_valid()
    assert form.get_user() == admin
    assert admin_form(code).has_error("__all__", "second_factor_invalid")


def test_it_says_the_same_to_who_may_not_enter_as_to_who_guesses(alice, admin):
    refusals = [admin_form("", "alice"), admin_form("", "alice", "wrong"), admin_form("", "nobody")]
    refusals += [admin_form("", "admin", "wrong")]
    assert len({str(form.errors) for form in refusals}) == 1
    assert all(form.has_error("__all__", "invalid_login") for form in refusals)


def test_who_has_the_permission_enters_without_being_staff(db):
    person("carol", "accounts.use_admin_pages")
    assert admin_form("", "carol").is_valid()


# --- kept secret ------------------------------------------------------------------------------------------------------


def test_neither_secrets_nor_codes_are_written_down_anywhere_else(signed_in, alice, sign_in, caplog):
    caplog.set_level("DEBUG")
    secret = signed_in.post(MINE, {"password": PASSWORD}).json()["secret"]
    code = code_of(alice)
    recovery_codes = signed_in.post(CONFIRM, {"code": code}).json()["recovery_codes"]
    wrong = wrong_code_of(alice)
    sign_in(code=wrong)
    sign_in(code=recovery_codes[0])
    kept = [caplog.text, *map(str, AuditEntry.objects.values()), *map(str, Mail.objects.values())]
    kept += map(str, [*DeviceSession.objects.values(), *FailedSignIns.objects.values(), *StaticToken.objects.values()])
    texts = "\n".join(kept).lower()
    for hidden in (secret.lower(), *recovery_codes, *(each.replace("-", "") for each in recovery_codes)):
        assert hidden not in texts
    assert f"'{code}'" not in texts
    assert f"'{wrong}'" not in texts


def test_answers_that_let_their_reader_in_are_not_kept_by_a_cache(signed_in, alice, sign_in):
    answers = [sign_in(), signed_in.post(MINE, {"password": PASSWORD})]
    answers.append(signed_in.post("/api/v2/auth/refresh", {"refresh": answers[0].json()["refresh"]}))
    answers.append(signed_in.post(CONFIRM, {"code": code_of(alice)}))
    answers.append(signed_in.post(RECOVERY, {"password": PASSWORD, "code": code_of(alice)}))
    assert [(answer.status_code, answer.headers.get("Cache-Control")) for answer in answers] == [(200, "no-store")] * 5
