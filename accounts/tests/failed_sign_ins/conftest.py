from types import SimpleNamespace

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.utils import timezone

from accounts.models import FailedSignIns
from accounts.tests.failed_sign_ins.guessing import HERE, LOGIN, address
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of


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


@pytest.fixture
def attack(sign_in, fail, alice):
    """Block a login as a whole, from addresses that are nobody's."""

    def run():
        for number in range(15):
            fail(1, at=address(number))
        problem_of(sign_in(password="wrong", at=address(20)), ErrorCode.INVALID_CREDENTIALS)

    return run
