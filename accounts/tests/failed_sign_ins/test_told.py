"""Guessing passwords tells nothing to who guesses, and is noticed by whom it concerns."""

import pytest

from accounts.audit import Action
from accounts.models import AuditEntry, FailedSignIns, Mail, User
from accounts.models.mail import MailKind
from accounts.services.failed_sign_ins import old_failures_delete
from accounts.tasks import delete_old_failures
from accounts.tests.failed_sign_ins.guessing import HERE, HOME, address, later, refused
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]


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
