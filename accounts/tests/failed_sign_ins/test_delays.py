"""Guessing passwords gets slow, from one address and from many."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone
from django_redis import get_redis_connection

from accounts.forms import AdminLoginForm
from accounts.models import DeviceSession, FailedSignIns
from accounts.tests.failed_sign_ins.guessing import HOME, address, later, refused
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]


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
