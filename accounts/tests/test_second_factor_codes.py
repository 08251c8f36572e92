"""A code of the second factor: asked for at the sign-in, good once, and too long to guess."""

from base64 import b32decode
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import OperationalError, connection
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.audit import Action
from accounts.mail_tokens import reset_token
from accounts.models import AuditEntry, FailedSignIns
from accounts.services.failed_sign_ins import code_guess_count
from accounts.tests.second_factors import code_of, no_delay, wrong_code_of
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

LOGIN = "/api/v2/auth/login"
MINE = "/api/v2/me/second-factor"
CONFIRM = f"{MINE}/confirm"
HERE, HOME = "198.51.100.7", "192.0.2.1"


# --- asked for --------------------------------------------------------------------------------------------------------


def test_a_code_is_good_once(sign_in, codes, alice):
    code = code_of(alice)
    assert sign_in(code=code).status_code == 200
    problem_of(sign_in(code=code), ErrorCode.SECOND_FACTOR_INVALID)


def test_the_code_that_confirmed_does_not_sign_in(signed_in, sign_in, alice):
    signed_in.post(MINE, {"password": PASSWORD})
    code = code_of(alice)
    signed_in.post(CONFIRM, {"code": code})
    problem_of(sign_in(code=code), ErrorCode.SECOND_FACTOR_INVALID)


def test_a_code_before_the_one_that_was_used_is_worth_nothing(sign_in, codes, alice):
    device = TOTPDevice.objects.get(user=alice)
    before, now = (f"{totp(device.bin_key, t0=30 * steps):06}" for steps in (1, 0))
    code_of(alice)
    assert sign_in(code=now).status_code == 200
    problem_of(sign_in(code=before), ErrorCode.SECOND_FACTOR_INVALID)


@pytest.mark.parametrize("steps", [-3, 3])
def test_a_code_of_another_time_is_worth_nothing(sign_in, codes, alice, steps):
    device = TOTPDevice.objects.get(user=alice)
    code_of(alice)
    problem_of(sign_in(code=f"{totp(device.bin_key, t0=30 * steps):06}"), ErrorCode.SECOND_FACTOR_INVALID)


def test_a_recovery_code_is_good_once_and_its_use_is_recorded(sign_in, codes, alice):
    assert sign_in(code=codes[0]).status_code == 200
    problem_of(sign_in(code=codes[0]), ErrorCode.SECOND_FACTOR_INVALID)
    assert sign_in(code=codes[1].upper().replace("-", " ")).status_code == 200
    assert sign_in(code=codes[2].replace("-", "")).status_code == 200
    entries = AuditEntry.objects.filter(action=Action.RECOVERY_CODE_USED, target_id=str(alice.pk)).order_by("pk")
    assert [entry.changes for entry in entries] == [{"recovery_codes": [10 - n, 9 - n]} for n in range(3)]


def test_people_may_write_a_code_in_groups(sign_in, codes, alice):
    code = code_of(alice)
    assert sign_in(code=f" {code[:3]} {code[3:]} ").status_code == 200


@pytest.mark.parametrize(
    "write",
    [
        lambda code: "".join(chr(0xFF10 + int(digit)) for digit in code),
        lambda code: "".join(chr(0x0660 + int(digit)) for digit in code),
        "_".join,
        lambda code: f"+{code}",
        lambda code: f"0{code}",
        lambda code: code[:5],
        lambda code: code + "\n" + code,
    ],
)
def test_what_only_means_the_number_is_not_the_code(sign_in, codes, alice, write):
    problem_of(sign_in(code=write(code_of(alice))), ErrorCode.SECOND_FACTOR_INVALID)


@pytest.mark.parametrize("kind", ["app", "recovery"])
@pytest.mark.django_db(transaction=True)
def test_of_two_who_use_one_code_at_once_one_gets_in(sign_in, codes, alice, kind):
    code = code_of(alice) if kind == "app" else codes[0]
    together = Barrier(4)

    def enter(number):
        together.wait(timeout=30)
        try:
            return sign_in(code=code, at=f"203.0.113.{number}").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(together.parties) as executor:
        assert sorted(executor.map(enter, range(together.parties))) == [200, 401, 401, 401]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time and no row locks")
@pytest.mark.django_db(transaction=True)
def test_a_success_elsewhere_takes_no_counter_from_under_a_try(codes, alice):
    """The other's DELETE comes right after the counter was found to be there, and before it is read."""
    code_guess_count(alice)
    others = []

    def forget_elsewhere():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = 100")  # milliseconds
            return FailedSignIns.objects.all().delete()
        except OperationalError as error:
            return error
        finally:
            connection.close()

    def when_written(execute, sql, *rest):
        result = execute(sql, *rest)
        if sql.startswith("INSERT"):
            others.append(executor.submit(forget_elsewhere).result())
        return result

    with ThreadPoolExecutor(1) as executor, connection.execute_wrapper(when_written):
        code_guess_count(alice)
    assert FailedSignIns.objects.get(key__startswith="code:").failures == 2
    assert len(others) == 1


def test_a_second_factor_is_told_of_only_to_who_knows_the_password(sign_in, codes, bob):
    bodies = []
    for login in ("alice", "bob", "nobody"):
        for code in ({}, {"code": "123456"}):
            body = problem_of(sign_in(login, password="wrong", **code), ErrorCode.INVALID_CREDENTIALS)
            bodies.append({name: value for name, value in body.items() if name != "request_id"})
    assert all(body == bodies[0] for body in bodies)


def test_a_wrong_password_uses_no_code_up(sign_in, codes, alice):
    code = code_of(alice)
    problem_of(sign_in(password="wrong", code=code), ErrorCode.INVALID_CREDENTIALS)
    problem_of(sign_in(password="wrong", code=codes[0]), ErrorCode.INVALID_CREDENTIALS)
    assert sign_in(code=code).status_code == 200
    assert sign_in(code=codes[0]).status_code == 200


def test_who_has_none_may_send_a_code_nevertheless(sign_in, alice):
    assert sign_in(code="123456").status_code == 200


def test_a_blank_code_is_none(sign_in, codes):
    assert fields_of(sign_in(code="  ")) == {"code": "blank"}


def test_a_new_password_by_mail_does_not_take_the_place_of_a_code(api, sign_in, codes, alice):
    alice.refresh_from_db()
    new = "a long new password"
    given = {"token": reset_token(alice), "password": new}
    answer = api(None).post("/api/v2/auth/password/reset", given)
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(sign_in(password=new), ErrorCode.SECOND_FACTOR_REQUIRED)
    assert sign_in(password=new, code=code_of(alice)).status_code == 200


def test_secrets_and_recovery_codes_are_what_the_system_makes_of_chance(signed_in, alice, monkeypatch):
    """Patched are the two sources that are fit for it: whatever else they came from would differ."""
    monkeypatch.setattr("django_otp.util.urandom", lambda length: b"\1" * length)
    monkeypatch.setattr("accounts.second_factor.token_bytes", lambda length: b"\0" * length)
    secret = signed_in.post(MINE, {"password": PASSWORD}).json()["secret"]
    assert b32decode(secret) == b"\1" * 20
    recovery_codes = signed_in.post(CONFIRM, {"code": code_of(alice)}).json()["recovery_codes"]
    assert set(recovery_codes) == {"-".join(["aaaa"] * 6)}


def test_of_a_recovery_code_only_a_hash_is_kept(codes):
    kept = str(list(StaticToken.objects.values())).lower()
    assert StaticToken.objects.count() == len(codes) == 10
    assert not [code for code in codes if code in kept or code.replace("-", "") in kept]
    bits = 5 * len(codes[0].replace("-", ""))
    assert bits >= 112  # else the hash would have to be a slow one with a salt (ASVS 6.5.2)


# --- guessing ---------------------------------------------------------------------------------------------------------


def test_a_wrong_code_is_a_failed_sign_in(sign_in, codes, alice):
    for _ in range(5):
        problem_of(sign_in(code=wrong_code_of(alice)), ErrorCode.SECOND_FACTOR_INVALID)
    answer = sign_in(code=code_of(alice))
    problem_of(answer, ErrorCode.TOO_MANY_ATTEMPTS)
    assert answer.headers["Retry-After"] == "1"
    reasons = AuditEntry.objects.filter(action=Action.SIGN_IN_FAILED).values_list("reason", flat=True)
    assert list(reasons) == ["second_factor_invalid"] * 5


def test_to_be_asked_for_a_code_is_no_failure_and_no_success(sign_in, codes, alice):
    for _ in range(30):
        problem_of(sign_in(), ErrorCode.SECOND_FACTOR_REQUIRED)
    for _ in range(4):
        problem_of(sign_in(code=wrong_code_of(alice)), ErrorCode.SECOND_FACTOR_INVALID)
    problem_of(sign_in(), ErrorCode.SECOND_FACTOR_REQUIRED)
    problem_of(sign_in(code=wrong_code_of(alice)), ErrorCode.SECOND_FACTOR_INVALID)
    problem_of(sign_in(), ErrorCode.TOO_MANY_ATTEMPTS)


def test_who_has_the_password_cannot_guess_the_code_from_many_addresses(sign_in, codes, alice):
    problem_of(sign_in(at=HOME), ErrorCode.SECOND_FACTOR_REQUIRED)
    assert sign_in(at=HOME, code=code_of(alice)).status_code == 200
    for number in range(9):
        problem_of(sign_in(code=wrong_code_of(alice), at=f"203.0.113.{number}"), ErrorCode.SECOND_FACTOR_INVALID)
        no_delay()
    problem_of(sign_in(code=wrong_code_of(alice), at="203.0.113.9"), ErrorCode.SECOND_FACTOR_INVALID)
    FailedSignIns.objects.filter(key__startswith="account:").update(blocked_until=None)
    answer = sign_in(code=code_of(alice), at="203.0.113.10")
    problem_of(answer, ErrorCode.TOO_MANY_ATTEMPTS)
    assert answer.headers["Retry-After"] == "32"  # not the short delay of the login
    assert sign_in(at=HOME, code=code_of(alice)).status_code == 200  # the owner gets in where they were before


@pytest.mark.django_db(transaction=True)
def test_many_guesses_at_once_get_no_further(sign_in, codes, alice):
    wrong = wrong_code_of(alice)
    together = Barrier(9)

    def guess(number):
        together.wait(timeout=30)
        try:
            return sign_in(code=wrong, at=f"203.0.113.{number}").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(together.parties) as executor:
        answers = sorted(executor.map(guess, range(together.parties)))
    assert answers == [401] * 5 + [429] * 4


def test_wrong_codes_do_not_lock_the_app_itself(sign_in, codes, alice):
    """django-otp would double its delay with every wrong code, for days and years."""
    for number in range(30):
        sign_in(code=wrong_code_of(alice), at=f"203.0.113.{number}")
        no_delay()
    assert sign_in(code=code_of(alice)).status_code == 200
