"""Guessing passwords: it gets slow, it is noticed, it tells nothing, and it locks nobody out for long."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from types import SimpleNamespace

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.db import connection
from django.db.models import F
from django.test import RequestFactory
from django.utils import timezone
from django_redis import get_redis_connection

from accounts.audit import Action
from accounts.forms import AdminLoginForm
from accounts.mail_tokens import reset_token
from accounts.models import AuditEntry, DeviceSession, FailedSignIns, Mail, User
from accounts.models.mail import MailKind
from accounts.services.failed_sign_ins import forget, old_failures_delete, user_unlock
from accounts.tasks import delete_old_failures
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.origin import origin_of_scope
from gateway.tests.expect import problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

LOGIN = "/api/v2/auth/login"
HOME, HERE = "192.0.2.1", "198.51.100.7"


def address(number: int) -> str:
    return f"203.0.113.{number}"


def later(**time: float) -> None:
    """Let time pass for what was counted."""
    passed = timedelta(**time)
    FailedSignIns.objects.update(last_failed_at=F("last_failed_at") - passed)
    FailedSignIns.objects.exclude(blocked_until=None).update(blocked_until=F("blocked_until") - passed)


@pytest.fixture
def time_stands_still(monkeypatch):
    """A block lasts a second, and on a busy machine so do the requests that are to meet it."""
    now = timezone.now()
    monkeypatch.setattr("accounts.services.failed_sign_ins.timezone", SimpleNamespace(now=lambda: now))


@pytest.fixture
def sign_in(api):
    def post(login="alice", password=PASSWORD, *, at=HERE):
        return api(None).post(LOGIN, {"login": login, "password": password}, REMOTE_ADDR=at)

    return post


@pytest.fixture
def fail(sign_in):
    """Fail so often in a row, each time after the delay."""

    def guess(times, login="alice", *, at=HERE):
        for _ in range(times):
            problem_of(sign_in(login, "wrong", at=at), ErrorCode.INVALID_CREDENTIALS)
            FailedSignIns.objects.filter(blocked_until__gt=timezone.now()).update(blocked_until=timezone.now())

    return guess


@pytest.fixture
def hashings(monkeypatch):
    """The passwords that were hashed: what takes the time of a sign-in."""
    hashed = []
    encode = MD5PasswordHasher.encode
    monkeypatch.setattr(
        MD5PasswordHasher, "encode", lambda self, *args: (hashed.append(args[0]), encode(self, *args))[1]
    )
    return hashed


def refused(answer) -> int:
    """Return for how many seconds."""
    problem_of(answer, ErrorCode.TOO_MANY_ATTEMPTS)
    return int(answer.headers["Retry-After"])


# --- it gets slow -----------------------------------------------------------------------------------------------------


def test_after_five_failures_each_waits_twice_as_long_up_to_a_quarter_of_an_hour(sign_in, alice):
    for _ in range(5):
        problem_of(sign_in(password="wrong"), ErrorCode.INVALID_CREDENTIALS)
    delays = []
    for _ in range(12):
        delays.append(refused(sign_in(password="wrong")))
        later(seconds=delays[-1])
        problem_of(sign_in(password="wrong"), ErrorCode.INVALID_CREDENTIALS)
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_even_the_right_password_has_to_wait_and_is_not_looked_at_before(sign_in, alice, hashings):
    for _ in range(5):
        sign_in(password="wrong")
    hashings.clear()
    assert refused(sign_in()) == 1
    assert hashings == []
    later(seconds=1)
    assert sign_in().status_code == 200


@pytest.mark.usefixtures("time_stands_still")
def test_a_try_that_is_refused_does_not_count(sign_in, alice):
    for _ in range(5):
        sign_in(password="wrong")
    before = list(FailedSignIns.objects.order_by("key").values())
    assert {refused(sign_in(password="wrong")) for _ in range(20)} == {1}
    assert list(FailedSignIns.objects.order_by("key").values()) == before


def test_success_forgets_the_failures_of_the_login(sign_in, fail, alice):
    for _ in range(5):
        fail(4)
        assert sign_in().status_code == 200
    fail(4)


def test_failures_are_forgotten_with_time(sign_in, fail, alice):
    fail(4)
    later(hours=4)
    fail(5)
    later(hours=1)
    problem_of(sign_in(password="wrong"), ErrorCode.INVALID_CREDENTIALS)
    assert refused(sign_in()) == 1


@pytest.mark.parametrize("variant", ["ALICE", "ａｌｉｃｅ", "Alice"])  # noqa: RUF001 - that is the point
def test_a_login_in_another_spelling_is_the_same_login(sign_in, fail, alice, variant):
    fail(4)
    problem_of(sign_in(variant, "wrong"), ErrorCode.INVALID_CREDENTIALS)
    assert refused(sign_in()) == 1


def test_guesses_from_many_addresses_are_slowed_down_too(sign_in, fail, alice):
    for number in range(10):
        problem_of(sign_in(password="wrong", at=address(number)), ErrorCode.INVALID_CREDENTIALS)
    assert refused(sign_in(at=address(99))) == 1
    later(seconds=1)
    for number in range(10, 30):
        fail(1, at=address(number))
    problem_of(sign_in(password="wrong", at=address(30)), ErrorCode.INVALID_CREDENTIALS)
    assert refused(sign_in(at=address(99))) == 30


def test_guesses_for_many_users_from_one_address_are_slowed_down_too(sign_in, alice):
    for number in range(20):
        problem_of(sign_in(f"user{number}", "wrong"), ErrorCode.INVALID_CREDENTIALS)
    assert refused(sign_in()) == 1
    assert sign_in(at=HOME).status_code == 200


def test_success_lifts_no_limit_of_the_address_and_counts_for_nothing_there(sign_in, alice, bob):
    for number in range(19):
        sign_in(f"user{number}", "wrong")
        assert sign_in().status_code == 200
    problem_of(sign_in("user19", "wrong"), ErrorCode.INVALID_CREDENTIALS)
    assert refused(sign_in("bob")) == 1


def test_who_was_signed_in_there_before_does_not_wait_for_what_others_mistype(sign_in, alice):
    """Many people may share an address, and one of them may mean harm."""
    assert sign_in().status_code == 200
    for number in range(21):
        sign_in(f"user{number}", "wrong")
    assert refused(sign_in("user21", "wrong")) > 0
    assert sign_in().status_code == 200
    for _ in range(5):
        problem_of(sign_in(password="wrong"), ErrorCode.INVALID_CREDENTIALS)
    refused(sign_in())


def test_an_address_that_many_share_forgets_a_failure_every_minute(sign_in, alice):
    for number in range(30):
        problem_of(sign_in(f"user{number}", "wrong"), ErrorCode.INVALID_CREDENTIALS)
        later(seconds=40)
        assert sign_in().status_code == 200  # which must not hold up the forgetting
        later(seconds=40)


def test_the_addresses_of_one_ipv6_network_are_one_client(sign_in, alice):
    for number in range(20):
        sign_in(f"user{number}", "wrong", at=f"2001:db8:1:1::{number:x}")
    assert refused(sign_in(at="2001:db8:1:1:ffff::1")) == 1
    assert sign_in(at="2001:db8:1:2::1").status_code == 200


def test_a_redis_that_is_emptied_forgets_no_failure(sign_in, alice):
    for _ in range(5):
        sign_in(password="wrong")
    get_redis_connection("default").flushdb()
    assert refused(sign_in()) == 1


@pytest.mark.django_db(transaction=True)
def test_many_at_once_get_no_further_than_one_after_the_other(sign_in, alice, hashings):
    together = Barrier(12)

    def guess(_number):
        together.wait(timeout=30)
        try:
            return sign_in(password="wrong").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(together.parties) as executor:
        answers = sorted(executor.map(guess, range(together.parties)))
    assert answers == [401] * 5 + [429] * 7
    assert hashings == ["wrong"] * 5
    assert set(FailedSignIns.objects.values_list("failures", flat=True)) == {5}


def test_the_door_of_the_admin_pages_is_limited_by_the_same_count(sign_in, admin):
    def form(password):
        data = {"username": "admin", "password": password, "code": ""}
        return AdminLoginForm(RequestFactory().post("/admin/login/"), data)

    for _ in range(5):
        assert form("wrong").has_error("__all__", "invalid_login")
    assert form(PASSWORD).has_error("__all__", "too_many_attempts")
    later(seconds=1)
    assert form(PASSWORD).is_valid()


def test_the_number_of_queries_does_not_grow(sign_in, fail, alice, django_assert_max_num_queries):
    for number in range(30):
        DeviceSession.objects.create(
            user=alice, address=address(number), refreshed_at=timezone.now(), last_seen_at=timezone.now(),
            expires_at=timezone.now() + timedelta(days=1),
        )  # fmt: skip
        fail(1, "nobody", at=address(number))
    with django_assert_max_num_queries(25):
        sign_in(password="wrong")


# --- it tells nothing -------------------------------------------------------------------------------------------------


@pytest.fixture
def told(sign_in, alice, bob, hashings):
    """What somebody who guesses for a login learns, and what the gateway did for each guess."""
    bob.is_active = False
    bob.save()
    carol = User.objects.create_user("carol", "carol@example.com", None)
    assert not carol.has_usable_password()

    def guess(login, at):
        seen = []
        for number in range(8):
            hashings.clear()
            answer = sign_in(login, "wrong", at=f"{at}{number % 3}" if at else HERE)
            body = {name: value for name, value in answer.json().items() if name != "request_id"}
            seen.append((answer.status_code, body, answer.headers.get("Retry-After"), len(hashings)))
        FailedSignIns.objects.all().delete()
        return seen

    return guess


@pytest.mark.parametrize("at", ["", "203.0.113."])
def test_nobody_learns_by_text_status_or_work_done_who_exists(told, at):
    first = told("nobody", at)
    for login in ("alice", "alice@example.com", "bob", "carol", "nobody@example.com"):
        assert told(login, at) == first
    assert [hashed for *_, hashed in first][:5] == [1] * 5


def test_that_a_name_and_an_address_are_of_one_user_is_not_told(sign_in, fail, alice):
    fail(5, "alice")
    problem_of(sign_in("alice", "wrong"), ErrorCode.INVALID_CREDENTIALS)
    refused(sign_in("alice"))
    problem_of(sign_in("alice@example.com", "wrong"), ErrorCode.INVALID_CREDENTIALS)


@pytest.mark.usefixtures("time_stands_still")
def test_a_block_looks_the_same_from_elsewhere_whether_or_not_the_user_exists(sign_in, fail, alice):
    for login in ("alice", "nobody"):
        for number in range(10):
            problem_of(sign_in(login, "wrong", at=address(number)), ErrorCode.INVALID_CREDENTIALS)
    assert refused(sign_in("alice", at=HOME)) == refused(sign_in("nobody", at=HOME)) == 1


def test_what_was_typed_as_a_login_is_not_kept(sign_in, db):
    sign_in("my password, by mistake", "wrong")
    assert not [key for key in FailedSignIns.objects.values_list("key", flat=True) if "mistake" in key]
    assert not AuditEntry.objects.filter(action=Action.SIGN_IN_FAILED).exists()


# --- it locks nobody out ----------------------------------------------------------------------------------------------


@pytest.fixture
def attack(sign_in, fail, alice):
    """Block a login as a whole, from addresses that are nobody's."""

    def run():
        for number in range(15):
            fail(1, at=address(number))
        problem_of(sign_in(password="wrong", at=address(20)), ErrorCode.INVALID_CREDENTIALS)

    return run


def test_the_victim_gets_in_where_they_were_before(sign_in, attack):
    assert sign_in(at=HOME).status_code == 200
    attack()
    assert sign_in(at=HOME).status_code == 200
    attack()
    assert refused(sign_in(at=HERE)) <= 30


def test_another_user_at_the_same_place_is_not_spared_for_that(sign_in, attack, bob):
    assert sign_in("bob", at=HOME).status_code == 200
    attack()
    assert refused(sign_in(at=HOME)) <= 30


def test_where_they_were_long_ago_counts_no_more(sign_in, attack, alice):
    assert sign_in(at=HOME).status_code == 200
    attack()
    DeviceSession.objects.update(last_seen_at=timezone.now() - timedelta(days=91))
    refused(sign_in(at=HOME))


def test_the_victim_may_have_another_address_of_the_same_ipv6_network(sign_in, attack):
    assert sign_in(at="2001:db8::1").status_code == 200
    attack()
    assert sign_in(at="2001:db8::2").status_code == 200


def test_guesses_from_where_the_victim_was_have_to_wait_nevertheless(sign_in, fail, attack):
    assert sign_in(at=HOME).status_code == 200
    attack()
    for _ in range(5):
        problem_of(sign_in(password="wrong", at=HOME), ErrorCode.INVALID_CREDENTIALS)
    refused(sign_in(at=HOME))


def test_an_administrator_unlocks_a_user_by_name_and_address_from_wherever(sign_in, alice, admin):
    for login in ("alice", "ALICE@example.com"):
        for _ in range(5):
            sign_in(login, "wrong")
        refused(sign_in(login))
    user_unlock(actor=admin, user=alice)
    for login in ("alice", "alice@example.com"):
        assert sign_in(login).status_code == 200
    [entry] = AuditEntry.objects.filter(action=Action.USER_UNLOCKED)
    assert (entry.actor_id, entry.target_id) == (admin.pk, str(alice.pk))


def test_unlocking_one_unlocks_no_other(sign_in, alice, bob, admin):
    for _ in range(5):
        sign_in("bob", "wrong")
    user_unlock(actor=admin, user=alice)
    refused(sign_in("bob"))


def test_whoever_proves_by_mail_who_they_are_may_sign_in_at_once(sign_in, attack):
    attack()
    for _ in range(5):
        sign_in(password="wrong")
    with origin_of_scope({"client": (HERE, 1)}):
        forget("alice")
    assert sign_in().status_code == 200


def test_where_somebody_has_reset_the_password_they_get_in_while_the_attack_goes_on(api, sign_in, attack, alice):
    given = {"token": reset_token(alice), "password": "a long new password"}
    assert api(None).post("/api/v2/auth/password/reset", given, REMOTE_ADDR=HERE).status_code == 204
    attack()
    assert refused(sign_in(password="a long new password", at=HOME)) <= 30
    assert sign_in(password="a long new password", at=HERE).status_code == 200


# --- it is noticed ----------------------------------------------------------------------------------------------------


def test_the_user_is_told_once_and_again_after_a_day(sign_in, attack, alice):
    def told():
        return Mail.objects.filter(kind=MailKind.SIGN_INS_FAILED, user=alice, address=alice.email).count()

    assert sign_in(at=HOME).status_code == 200
    attack()
    assert told() == 1
    assert sign_in(at=HOME).status_code == 200
    attack()
    assert told() == 1
    later(hours=25)
    attack()
    assert told() == 2
    assert AuditEntry.objects.filter(action=Action.SIGN_INS_BLOCKED, target_id=str(alice.pk)).count() == 2


def test_a_user_who_mistypes_is_not_written_to(fail, sign_in, alice):
    fail(9)
    later(minutes=15)
    assert sign_in().status_code == 200
    assert not Mail.objects.exists()
    assert not AuditEntry.objects.filter(action=Action.SIGN_INS_BLOCKED).exists()


def test_failures_are_recorded_but_an_attacker_does_not_fill_the_record(fail, alice):
    fail(30)
    entries = AuditEntry.objects.filter(action=Action.SIGN_IN_FAILED)
    assert entries.count() == 10
    assert {(entry.address, entry.target_id, entry.reason) for entry in entries} == {
        (HERE, str(alice.pk), "invalid_credentials")
    }
    for number in range(30):
        fail(1, f"nobody{number}")
    assert entries.count() == 10


def test_who_knows_a_password_but_may_not_use_the_admin_pages_is_recorded(client, alice):
    client.post("/admin/login/", {"username": "alice", "password": PASSWORD})
    entry = AuditEntry.objects.get(action=Action.SIGN_IN_FAILED)
    assert (entry.target_id, entry.reason) == (str(alice.id), "permission_denied")


def test_that_an_address_guesses_is_recorded_once(fail, db):
    for number in range(40):
        fail(1, f"nobody{number}")
    [entry] = AuditEntry.objects.filter(action=Action.SIGN_INS_BLOCKED)
    assert (entry.address, entry.target_id) == (HERE, "")


def test_what_says_nothing_any_more_is_deleted_in_batches(fail, db):
    for number in range(4):
        fail(1, f"nobody{number}")
    later(days=3)
    fail(1, "somebody", at=HOME)
    assert old_failures_delete(batch=2) == 9
    delete_old_failures()
    assert FailedSignIns.objects.count() == 3
