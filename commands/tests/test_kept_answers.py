"""Answers that are kept for the short way: nobody gets more by them, and none is told any more when it is not so."""

import json
from contextlib import contextmanager

import pytest
from django.db import transaction
from django_redis import get_redis_connection

from accounts import sign_in_cache
from accounts.models import RouteRule
from accounts.services.sessions import session_start
from accounts.tests.sign_in_cache.changes import CHANGES, ENDINGS
from commands import kept_answers
from commands.models import Command
from commands.services import command_store
from commands.tests.lane import COMMANDS, TEXT, path_of
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of
from tests.rows import ended_command

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_access]


# --- nobody gets more ------------------------------------------------------------------------------------------------


@contextmanager
def seen_before(client, command):
    for _ in range(2):
        assert client.get(path_of(command)).status_code == 200
    yield


@pytest.mark.parametrize("end", ENDINGS)
def test_a_session_that_ended_gets_no_answer_that_is_kept(api, alice, end):
    session, tokens = session_start(login="alice", password=PASSWORD)
    client, command = api(None), ended_command(alice)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.access}")
    with seen_before(client, command):
        end(alice, session)
    for _ in range(2):
        problem_of(client.get(path_of(command)), ErrorCode.SESSION_ENDED)
        problem_of(client.post(COMMANDS, TEXT, format="json"), ErrorCode.SESSION_ENDED)


@pytest.mark.parametrize(("change", "code"), [each for each in CHANGES if each[0].__name__ != "_rule"])
@pytest.mark.parametrize("dies", [False, True])
def test_nor_does_somebody_who_may_not_any_more(alice, alice_client, monkeypatch, change, code, dies):
    command = ended_command(alice)
    with seen_before(alice_client, command):
        if dies:  # right after the commit
            for name in ("forget", "forget_everybody"):
                monkeypatch.setattr(sign_in_cache, name, lambda *_args: None)
        with transaction.atomic():
            change(alice)
    for _ in range(2):
        answer = alice_client.get(path_of(command))
        assert (answer.status_code, answer.json()["code"]) == (403, code)


@pytest.mark.parametrize(("method", "route"), [("GET", "command"), ("POST", "commands")])
def test_a_rule_counts(alice, alice_client, method, route):
    command = ended_command(alice)
    with seen_before(alice_client, command):
        RouteRule.objects.create(method=method, route=route, permission="accounts.view_user", reason="x")
    path, body = (path_of(command), None) if method == "GET" else (COMMANDS, TEXT)
    answer = alice_client.generic(method, path, json.dumps(body), "application/json")
    assert (answer.status_code, answer.json()["permission"]) == (403, "accounts.view_user")


def test_what_is_kept_is_for_its_user_alone(api, alice, bob, admin, alice_client):
    command = ended_command(alice)
    with seen_before(alice_client, command):
        assert get_redis_connection("default").exists(kept_answers.key_of(command.id))
    for other in (bob, admin):
        client = api(other)
        for _ in range(2):
            problem_of(client.get(path_of(command)), ErrorCode.NOT_FOUND)
    problem_of(api(None).get(path_of(command)), ErrorCode.NOT_AUTHENTICATED)


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_what_is_kept_costs_one_round_trip(alice, alice_client, round_trips, django_assert_num_queries):
    command = ended_command(alice)
    with seen_before(alice_client, command):
        round_trips.clear()
    with django_assert_num_queries(0):
        alice_client.get(path_of(command))
    assert len(round_trips) == 1


def test_what_has_not_ended_is_not_kept(alice, alice_client):
    command = command_store(Command(user=alice, text="x"))
    assert alice_client.get(path_of(command)).json()["status"] == "queued"
    Command.objects.filter(id=command.id).update(status="running", stage="runner")
    assert alice_client.get(path_of(command)).json()["status"] == "running"


def test_what_is_gone_is_forgotten(alice, alice_client):
    command = ended_command(alice)
    with seen_before(alice_client, command):
        path, command_id = path_of(command), command.id
        command.delete()
        kept_answers.forget([command_id])
    problem_of(alice_client.get(path), ErrorCode.NOT_FOUND)
    kept_answers.keep(command_id, b"from somebody who read it before")
    assert get_redis_connection("default").get(kept_answers.key_of(command_id)) == b""


def test_another_command_in_the_same_place_is_not_taken_for_it(alice, alice_client, monkeypatch):
    monkeypatch.setattr(kept_answers, "SLOTS", 1)
    first, second = (ended_command(alice, text=text) for text in ("a", "b"))
    for _ in range(2):
        assert alice_client.get(path_of(first)).json()["text"] == "a"
        assert alice_client.get(path_of(second)).json()["text"] == "b"


def test_what_is_large_is_not_kept_and_nothing_for_long(alice, alice_client):
    large, small = ended_command(alice, text="x" * kept_answers.MAX_BYTES), ended_command(alice)
    for command in (large, small):
        alice_client.get(path_of(command))
    redis = get_redis_connection("default")
    assert not redis.exists(kept_answers.key_of(large.id))
    assert 0 < redis.ttl(kept_answers.key_of(small.id)) <= kept_answers.LIFETIME_SECONDS
