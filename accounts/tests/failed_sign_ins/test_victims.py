"""Guessing passwords locks nobody out for long."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.audit import Action
from accounts.mail_tokens import reset_token
from accounts.models import AuditEntry, DeviceSession
from accounts.services.failed_sign_ins import forget, user_unlock
from accounts.tests.failed_sign_ins.guessing import HERE, HOME, refused
from gateway.api.errors import ErrorCode
from gateway.origin import origin_of_scope
from gateway.tests.expect import problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]


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
