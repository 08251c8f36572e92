"""Many commands by one call."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands import services
from commands.bulk import MAX_ITEMS
from commands.models import Command, CommandEvent
from commands.services import command_cancel, command_submit
from commands.states import Status
from commands.transitions import command_transition
from gateway.api.errors import ErrorCode
from gateway.tests.expect import fields_of, problem_of
from tests.rows import ended_command

URL = "/api/v2/commands/bulk"
CANCEL = "/api/v2/commands/bulk-cancel"


def post(client, body, path=URL, **headers):
    return client.post(path, json.dumps(body), content_type="application/json", **headers)


@pytest.mark.django_db
class TestSubmit:
    def test_each_item_has_its_own_answer_and_none_blocks_another(self, api, alice):
        items = [
            {"text": "echo 1"},
            {"text": ""},
            "echo",
            {"text": "echo", "target": "of nobody"},
            {"text": "echo", "deadline": "2020-01-01T00:00:00Z", "txet": 1},
            {"text": "echo 2", "priority": "high"},
        ]
        answer = post(api(alice), {"commands": items})
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert [(each["index"], each["status"]) for each in results] == list(enumerate([201, 400, 400, 400, 400, 201]))
        assert [[error["field"] for error in each["error"]["errors"]] for each in results[1:5]] == [
            ["text"],
            ["body"],
            ["target"],
            ["txet"],
        ]
        assert {each["error"]["code"] for each in results[1:5]} == {"validation_error"}
        texts = ["echo 1", "echo 2"]
        assert [results[index]["command"]["text"] for index in (0, 5)] == texts
        stored = Command.objects.order_by("id")
        assert [command.text for command in stored] == texts
        assert [results[index]["command"]["id"] for index in (0, 5)] == [str(command.id) for command in stored]
        assert CommandEvent.objects.count() == 2

    def test_a_hundred_are_taken_and_one_more_is_not(self, api, alice):
        client = api(alice)
        answer = post(client, {"commands": [{"text": f"echo {number}"} for number in range(MAX_ITEMS)]})
        assert [each["status"] for each in answer.json()["results"]] == [201] * MAX_ITEMS
        answer = post(client, {"commands": [{"text": "echo"}] * (MAX_ITEMS + 1)})
        assert fields_of(answer) == {"commands": "max_length"}
        assert Command.objects.count() == MAX_ITEMS

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "commands"),
            ({"commands": []}, "commands"),
            ({"commands": None}, "commands"),
            ({"commands": {"text": "echo"}}, "commands"),
            ({"commands": "echo"}, "commands"),
            ({"commands": [{"text": "echo"}], "text": "echo"}, "text"),
            ([{"text": "echo"}], "body"),
            ("echo", "body"),
        ],
    )
    def test_what_is_no_list_of_commands_is_refused_as_a_whole(self, api, alice, body, field):
        assert set(fields_of(post(api(alice), body))) == {field}
        assert Command.objects.count() == 0

    def test_items_of_any_type_are_refused_one_by_one(self, api, alice):
        items = [None, 1, True, [], [[]], {}, {"text": "\ud800"}, {"text": "x", "parameters": {"a": "\0"}}, {"": 1}]
        results = post(api(alice), {"commands": items}).json()["results"]
        assert [each["status"] for each in results] == [400] * len(items)
        assert Command.objects.count() == 0

    @pytest.mark.security
    @pytest.mark.security_access
    def test_strangers_and_those_who_may_not_get_nothing(self, api):
        problem_of(post(api(None), {"commands": [{"text": "echo"}]}), ErrorCode.NOT_AUTHENTICATED)


@pytest.mark.django_db(transaction=True)
class TestIdempotency:
    ITEMS = [{"text": "echo 1"}, {"text": ""}, {"text": "echo 2"}]  # noqa: RUF012 - read only

    def test_the_same_again_gets_the_same_answers_and_makes_nothing(self, api, alice, bob):
        client = api(alice)
        first = post(client, {"commands": self.ITEMS}, HTTP_IDEMPOTENCY_KEY="k" * 255)
        command_cancel(command=Command.objects.first())
        second = post(client, {"commands": self.ITEMS}, HTTP_IDEMPOTENCY_KEY="k" * 255)
        assert (second.status_code, second.json()) == (200, first.json())
        assert Command.objects.count() == 2
        other = post(client, {"commands": self.ITEMS[:2]}, HTTP_IDEMPOTENCY_KEY="k" * 255)
        problem_of(other, ErrorCode.IDEMPOTENCY_KEY_REUSED)
        assert Command.objects.count() == 2
        assert post(api(bob), {"commands": self.ITEMS}, HTTP_IDEMPOTENCY_KEY="k" * 255).status_code == 200
        assert Command.objects.count() == 4

    def test_who_dies_in_the_midst_has_made_nothing_and_the_next_makes_all(self, api, alice, monkeypatch):
        def dies(*_args, **_kwargs):
            raise SystemExit

        client, send = api(alice), services.wake_on_commit
        monkeypatch.setattr(services, "wake_on_commit", dies)
        with pytest.raises(SystemExit):
            post(client, {"commands": self.ITEMS}, HTTP_IDEMPOTENCY_KEY="k")
        monkeypatch.setattr(services, "wake_on_commit", send)
        assert Command.objects.count() == 0
        answer = post(client, {"commands": self.ITEMS}, HTTP_IDEMPOTENCY_KEY="k")
        assert [each["status"] for each in answer.json()["results"]] == [201, 400, 201]
        assert Command.objects.count() == 2

    def test_many_at_once_make_each_command_once_and_another_body_is_refused(self, api, alice):
        clients, barrier = [api(alice) for _ in range(10)], threading.Barrier(10)

        def send(number):
            barrier.wait()
            try:
                body = {"commands": [{"text": f"echo {number % 2} {index}"} for index in range(5)]}
                answer = post(clients[number], body, HTTP_IDEMPOTENCY_KEY="k")
                return number % 2, answer.status_code, json.dumps(answer.json().get("results"))
            finally:
                connection.close()

        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(send, range(10)))
        [winner] = {which for which, status, _results in answers if status == 200}
        assert {status for which, status, _results in answers if which != winner} == {422}
        assert len({results for which, _status, results in answers if which == winner}) == 1
        assert Command.objects.count() == 5


@pytest.mark.django_db
class TestCancel:
    def test_each_id_has_its_own_answer(self, api, alice, bob):
        queued, again = (command_submit(user=alice, text="echo") for _ in range(2))
        command_cancel(command=again)
        running = command_submit(user=alice, text="echo")
        command_transition(running, Status.SEGMENTING)
        completed, foreign, missing = ended_command(alice), command_submit(user=bob, text="echo"), uuid.UUID(int=1)
        ids = [str(each) for each in (queued.id, again.id, running.id, completed.id, foreign.id, missing)]
        answer = post(api(alice), {"ids": ids}, CANCEL)
        assert (answer.status_code, answer.json()["more"]) == (200, False)
        results = answer.json()["results"]
        assert [each["id"] for each in results] == ids
        assert [each["status"] for each in results] == [202, 202, 202, 409, 404, 404]
        assert [each["command"]["status"] for each in results[:3]] == ["cancelled", "cancelled", "cancelling"]
        assert [each["error"]["code"] for each in results[3:]] == ["command_not_cancellable", "not_found", "not_found"]
        foreign.refresh_from_db()
        assert foreign.status == Status.QUEUED

    def test_a_filter_takes_what_fits_all_of_it(self, api, alice, bob):
        now = timezone.now()
        fits = {"text": "echo Merhaba", "mode": "dream", "persona": "x", "tags": ["a", "ü"]}
        mine = command_submit(user=alice, **fits)
        others = [command_submit(user=alice, **fits | other) for other in (
            {"text": "echo"}, {"mode": "normal"}, {"persona": "xx"}, {"tags": ["aü", "a"]}, {"tags": []},
        )]  # fmt: skip
        others.append(command_submit(user=bob, **fits))
        running = command_submit(user=alice, **fits)
        command_transition(running, Status.SEGMENTING)
        condition = {
            "status": "queued",
            "mode": ["dream", "chaos"],
            "persona": "x",
            "tag": ["ü", "a"],
            "created_after": (now - timedelta(minutes=1)).isoformat(),
            "created_before": (now + timedelta(minutes=1)).isoformat(),
            "q": "merhaba",
        }
        answer = post(api(alice), {"filter": condition}, CANCEL)
        assert [each["id"] for each in answer.json()["results"]] == [str(mine.id)]
        assert {command.status for command in Command.objects.exclude(id=mine.id)} == {"queued", "segmenting"}
        condition = {"status": ["segmenting", "running"], "tag": "ü"}
        [result] = post(api(alice), {"filter": condition}, CANCEL).json()["results"]
        assert (result["id"], result["command"]["status"]) == (str(running.id), "cancelling")
        assert post(api(alice), {"filter": condition}, CANCEL).json() == {"results": [], "more": False}
        assert all(Command.objects.get(id=each.id).status == Status.QUEUED for each in others)

    def test_times_of_the_filter(self, api, alice):
        first, second = (command_submit(user=alice, text="echo") for _ in range(2))
        client, at = api(alice), second.created_at.isoformat()
        results = post(client, {"filter": {"created_before": at}}, CANCEL).json()["results"]
        assert [each["id"] for each in results] == [str(first.id)]
        results = post(client, {"filter": {"created_after": at}}, CANCEL).json()["results"]
        assert [each["id"] for each in results] == [str(second.id)]

    def test_a_filter_takes_a_hundred_and_says_that_there_are_more(self, api, alice):
        client = api(alice)
        Command.objects.bulk_create(
            Command(user=alice, text="echo", last_seq=1, due_at=timezone.now()) for _ in range(MAX_ITEMS + 1)
        )
        answers = [post(client, {"filter": {"q": "echo"}}, CANCEL).json() for _ in range(2)]
        assert [(len(answer["results"]), answer["more"]) for answer in answers] == [(100, True), (1, False)]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "ids"),
            ({"ids": []}, "ids"),
            ({"ids": "x"}, "ids"),
            ({"ids": None}, "ids"),
            ({"ids": ["x"]}, "ids.0"),
            ({"ids": [5]}, "ids.0"),
            ({"ids": [str(uuid.UUID(int=1))] * 2}, "ids"),
            ({"ids": [str(uuid.UUID(int=number)) for number in range(101)]}, "ids"),
            ({"ids": [str(uuid.UUID(int=1))], "filter": {"q": "xyz"}}, "ids"),
            ({"filter": {}}, "filter"),
            ({"filter": []}, "filter"),
            ({"filter": {"colour": "blue"}}, "filter.colour"),
            ({"filter": {"status": "cancelled"}}, "filter.status.0"),
            ({"filter": {"status": {"queued": 1}}}, "filter.status"),
            ({"filter": {"status": 5}}, "filter.status"),
            ({"filter": {"mode": []}}, "filter.mode"),
            ({"filter": {"mode": "fast"}}, "filter.mode.0"),
            ({"filter": {"status": []}}, "filter.status"),
            ({"filter": {"status": ["completed"]}}, "filter.status.0"),
            ({"filter": {"mode": None}}, "filter.mode"),
            ({"filter": {"tag": "\0"}}, "filter.tag.0"),
            ({"filter": {"q": ""}}, "filter.q"),
            ({"filter": {"q": "ab"}}, "filter.q"),
            ({"filter": {"q": 5}}, "filter.q"),
            ({"filter": {"user": str(uuid.UUID(int=1))}}, "filter.user"),
            ({"filter": {"created_after": 5}}, "filter.created_after"),
            ({"filter": {"created_after": "2026-11-24"}}, "filter.created_after"),
            ({"all": True}, "all"),
            ([], "body"),
        ],
    )
    def test_bad_input_is_named_and_cancels_nothing(self, api, alice, body, field):
        command_submit(user=alice, text="x")
        assert field in fields_of(post(api(alice), body, CANCEL))
        assert Command.objects.get().status == Status.QUEUED

    @pytest.mark.security
    @pytest.mark.security_access
    def test_nobody_cancels_another_persons_commands(self, api, alice, bob, admin):
        command = command_submit(user=alice, text="echo")
        for user in (bob, admin):
            answer = post(api(user), {"ids": [str(command.id)]}, CANCEL).json()
            assert [each["status"] for each in answer["results"]] == [404]
            assert post(api(user), {"filter": {"q": "echo"}}, CANCEL).json()["results"] == []
        problem_of(post(api(None), {"ids": [str(command.id)]}, CANCEL), ErrorCode.NOT_AUTHENTICATED)
        command.refresh_from_db()
        assert command.status == Status.QUEUED
