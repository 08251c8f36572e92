import json
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from commands.models import Command
from commands.services import command_submit
from commands.states import Stage
from conftest import drive, drive_to_trouble
from gateway.tests.expect import fields_of
from integrations.models import ServiceInstance

pytestmark = pytest.mark.django_db

URL = "/api/v2/commands"
PARTS = ["", "/events", "/timeline", "/result"]


@pytest.fixture
def command(alice):
    return command_submit(user=alice, text="echo hello")


def fields(answer):
    assert answer["Content-Type"] == "application/problem+json"
    return {error["field"] for error in answer.json()["errors"]}


def test_a_command_is_stored_and_the_answer_says_where(alice, api):
    answer = api(alice).post(URL, {"text": "echo Merhaba dünya"}, format="json")
    assert answer.status_code == 201
    body = answer.json()
    assert answer["Location"] == f"{URL}/{body['id']}" == body["links"]["self"]
    assert (body["status"], body["stage"], body["progress"], body["files"], body["error"]) == (
        "queued",
        None,
        0,
        [],
        None,
    )
    stored = Command.objects.get(id=body["id"])
    assert (stored.user, stored.text) == (alice, "echo Merhaba dünya")
    assert uuid.UUID(body["id"]).version == 7


def test_everything_that_can_be_said_about_a_command_is_kept(alice, api):
    body = {
        "text": "  echo  hello\n",
        "mode": "chaos",
        "chaos_level": 10,
        "persona": "creative_writer",
        "priority": "high",
        "parameters": {"depth": [1, {"ü": None}], "ratio": 0.5},
        "metadata": {"ticket": "T-1"},
        "tags": ["a", "b"],
        "target": "gpu",
        "deadline": (timezone.now() + timedelta(hours=1)).isoformat(),
    }
    ServiceInstance.objects.create(kind="runner", base_url="http://runner", source="admin", tags=["gpu"])
    answer = api(alice).post(URL, body, format="json").json()
    for name in body.keys() - {"deadline"}:
        assert answer[name] == body[name]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": " \n\t "}, "text"),
        ({"text": "x" * 10_001}, "text"),
        ({"text": None}, "text"),
        ({"text": 5}, "text"),
        ({"text": ["echo"]}, "text"),
        ({"text": {"a": 1}}, "text"),
        ({"text": True}, "text"),
        ({"text": "a\0b"}, "text"),
        ({"text": "a\ud800b"}, "text"),
        ({"text": "x", "txet": "y"}, "txet"),
        ({"text": "x", "status": "completed"}, "status"),
        ({"text": "x", "user": "bob"}, "user"),
        ({"text": "x", "mode": "Normal"}, "mode"),
        ({"text": "x", "mode": None}, "mode"),
        ({"text": "x", "mode": ["normal"]}, "mode"),
        ({"text": "x", "chaos_level": 5}, "chaos_level"),
        ({"text": "x", "mode": "chaos", "chaos_level": 0}, "chaos_level"),
        ({"text": "x", "mode": "chaos", "chaos_level": 11}, "chaos_level"),
        ({"text": "x", "mode": "chaos", "chaos_level": "5"}, "chaos_level"),
        ({"text": "x", "mode": "chaos", "chaos_level": True}, "chaos_level"),
        ({"text": "x", "mode": "chaos", "chaos_level": 5.0}, "chaos_level"),
        ({"text": "x", "persona": "Technical Expert"}, "persona"),
        ({"text": "x", "persona": "x" * 65}, "persona"),
        ({"text": "x", "priority": "urgent"}, "priority"),
        ({"text": "x", "parameters": []}, "parameters"),
        ({"text": "x", "parameters": "a=1"}, "parameters"),
        ({"text": "x", "parameters": {"a": "\0"}}, "parameters"),
        ({"text": "x", "parameters": {"\ud800": 1}}, "parameters"),
        ({"text": "x", "parameters": {"a": "x" * 70_000}}, "parameters"),
        ({"text": "x", "metadata": None}, "metadata"),
        ({"text": "x", "tags": "a,b"}, "tags"),
        ({"text": "x", "tags": ["a", "a"]}, "tags"),
        ({"text": "x", "tags": ["a"] * 21}, "tags"),
        ({"text": "x", "tags": ["a", 1]}, "tags.1"),
        ({"text": "x", "tags": ["x" * 51]}, "tags.0"),
        ({"text": "x", "target": "of nobody"}, "target"),
        ({"text": "x", "target": ""}, "target"),
        ({"text": "x", "target": 5}, "target"),
        ({"text": "x", "target": "x" * 51}, "target"),
        ({"text": "x", "deadline": "tomorrow"}, "deadline"),
        ({"text": "x", "deadline": 5}, "deadline"),
        ({"text": "x", "deadline": "2020-01-01T00:00:00Z"}, "deadline"),
        ({"text": "x", "deadline": "0001-01-01T00:00:00+14:00"}, "deadline"),
        ({"text": "x", "deadline": "9999-12-31T23:59:59-14:00"}, "deadline"),
        ({"text": "x", "deadline": "2099-01-01T00:00:00"}, "deadline"),
        ({"text": "x", "deadline": "2099-01-01"}, "deadline"),
        ({"text": "x", "deadline": "2099-02-30T00:00:00Z"}, "deadline"),
        ({"text": "x", "deadline": "2099-01-01T00:00:00+99:99"}, "deadline"),
        ({"text": "x", "deadline": "2099-01-01T00:00:00Z\n"}, "deadline"),
        ({"text": "x", "deadline": ""}, "deadline"),
        ({"text": "x", "deadline": True}, "deadline"),
        ({"text": "x", "deadline": []}, "deadline"),
        ({"text": "x", "deadline": {}}, "deadline"),
        ({"text": "x", "priority": 1}, "priority"),
        ({"text": "x", "priority": None}, "priority"),
        ({"text": "x", "priority": ""}, "priority"),
        ({"text": "x", "priority": {"a": 1}}, "priority"),
        ({"text": "x", "mode": True}, "mode"),
        ({"text": "x", "mode": "\ud800"}, "mode"),
        ({"text": "x", "mode": "chaos", "chaos_level": 10**4000}, "chaos_level"),
        ({"text": "x", "mode": "chaos", "chaos_level": -1}, "chaos_level"),
        ({"text": "x", "mode": "chaos", "chaos_level": [1]}, "chaos_level"),
        ({"text": "x", "persona": "a\n"}, "persona"),
        ({"text": "x", "persona": "é"}, "persona"),
        ({"text": "x", "persona": None}, "persona"),
        ({"text": "x", "persona": "\ud800"}, "persona"),
        ({"text": "x", "metadata": {"a": {"b": "\udfff"}}}, "metadata"),
        ({"text": "x", "metadata": 1}, "metadata"),
        ({"text": "x", "tags": None}, "tags"),
        ({"text": "x", "tags": {"a": 1}}, "tags"),
        ({"text": "x", "tags": [None]}, "tags.0"),
        ({"text": "x", "tags": [""]}, "tags.0"),
        ({"text": "x", "tags": ["a\0"]}, "tags.0"),
        ({"text": "x", "tags": ["\ud800"]}, "tags.0"),
        ({"text": "x", "tags": [["a"]]}, "tags.0"),
        ({"text": "x", "target": None}, "target"),
        ({"text": "x", "target": "\ud800"}, "target"),
        ({"text": "x", "": 1}, "body"),
        ({"text": "x", "\ud800": 1}, "?"),
        ({"text": "x", "retry_of": None}, "retry_of"),
        ([], "body"),
        ("text", "body"),
        (None, "body"),
    ],
)
def test_bad_input_is_refused_by_the_name_of_its_field_and_changes_nothing(alice, api, body, field):
    answer = api(alice).post(URL, json.dumps(body), content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["code"] == "validation_error"
    assert field in fields(answer)
    assert Command.objects.count() == 0


def test_a_number_too_large_for_a_float_is_refused(alice, api):
    answer = api(alice).post(URL, '{"text": "x", "parameters": {"a": 1e400}}', content_type="application/json")
    assert fields(answer) == {"parameters"}


def test_json_nested_too_deep_is_refused(alice, api):
    deep = '{"text": "x", "parameters": {"a": ' + "[" * 40 + "]" * 40 + "}}"
    assert fields(api(alice).post(URL, deep, content_type="application/json")) == {"parameters"}
    deeper = '{"text": "x", "parameters": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert api(alice).post(URL, deeper, content_type="application/json").status_code == 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"text": "x", "text": "y"}', "text"),
        ('{"text": "x", "parameters": {"a": 1, "b": 2, "a": 1}}', "a"),
        ('{"text": "x", "tags": [], "tags": []}', "tags"),
    ],
)
def test_a_name_that_is_there_twice_is_refused(alice, api, body, field):
    answer = api(alice).post(URL, body, content_type="application/json")
    assert fields_of(answer) == {field: "repeated"}
    assert Command.objects.count() == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"text": "x"} {}',
        b'{"text": NaN}',
        b'{"text": "x", "parameters": {"a": -Infinity}}',
        b'{"text": "\xff"}',
        b'{"text": "x", "parameters": {"a": ' + b"9" * 5000 + b"}}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_is_refused(alice, api, body):
    answer = api(alice).post(URL, body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["code"] in ("malformed_body", "validation_error")
    assert Command.objects.count() == 0


def test_lengths_are_counted_in_characters(alice, api):
    body = {"text": "😀" * 10_000, "tags": ["😀" * 50], "parameters": {"ü" * 1000: [10**400, 1e20]}}
    answer = api(alice).post(URL, json.dumps(body), content_type="application/json")
    assert answer.status_code == 201
    stored = Command.objects.get()
    assert (stored.text, stored.tags, stored.parameters) == (body["text"], body["tags"], body["parameters"])
    again = api(alice).post(URL, json.dumps(body | {"text": "😀" * 10_001}), content_type="application/json")
    assert fields(again) == {"text"}


@pytest.mark.parametrize("deadline", ["9999-12-31T23:59:59Z", "2099-06-01t12:00:00.123456789+03:00"])
def test_a_deadline_may_be_far_away(alice, api, deadline):
    answer = api(alice).post(URL, {"text": "x", "deadline": deadline}, format="json")
    assert answer.status_code == 201
    assert answer.json()["deadline"].endswith("Z")


@pytest.mark.parametrize("path", ["", "/bulk", "/bulk-cancel", "/{id}/cancel", "/{id}/retry"])
def test_no_post_takes_a_query(alice, api, command, path):
    answer = api(alice).post(f"{URL}{path}?limit=1".format(id=command.id), {}, format="json")
    assert fields_of(answer) == {"limit": "unknown_field"}


@pytest.mark.parametrize(
    ("body", "field"), [({"reason": "x"}, "reason"), ([], "body"), ("x", "body"), (None, "body"), (1, "body")]
)
def test_a_cancellation_takes_no_body(alice, api, command, body, field):
    answer = api(alice).post(f"{URL}/{command.id}/cancel", json.dumps(body), content_type="application/json")
    assert fields(answer) == {field}
    command.refresh_from_db()
    assert command.status == "queued"


def test_another_media_type_is_415(alice, api):
    answer = api(alice).post(URL, "text=echo", content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


class TestIdempotency:
    def post(self, client, key, text="echo hello"):
        return client.post(URL, {"text": text}, format="json", HTTP_IDEMPOTENCY_KEY=key)

    @pytest.mark.django_db(transaction=True)
    def test_the_same_key_and_body_get_the_same_answer_even_after_the_end(self, alice, api, sandbox):
        client = api(alice)
        first = self.post(client, "k-1")
        drive(Command.objects.get())
        second = self.post(client, "k-1")
        assert (second.status_code, second.json(), second["Location"]) == (201, first.json(), first["Location"])
        assert Command.objects.count() == 1

    def test_the_same_key_with_another_body_is_422(self, alice, api):
        client = api(alice)
        self.post(client, "k-1")
        answer = self.post(client, "k-1", text="echo other")
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert Command.objects.count() == 1

    def test_a_repeat_is_no_error_though_what_it_asks_for_would_be_one_now(self, alice, api, monkeypatch):
        service = ServiceInstance.objects.create(kind="runner", base_url="http://r", source="admin", tags=["gpu"])
        body = {"text": "x", "target": "gpu", "deadline": (timezone.now() + timedelta(hours=1)).isoformat()}
        client = api(alice)
        first = client.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="k")
        service.delete()
        later = timezone.now() + timedelta(hours=2)
        monkeypatch.setattr("commands.services.timezone", SimpleNamespace(now=lambda: later))
        again = client.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="k")
        assert (again.status_code, again.json()) == (201, first.json())
        assert fields(client.post(URL, body, format="json")) == {"target", "deadline"}

    @pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\tb"])
    def test_an_unfit_key_is_refused(self, alice, api, key):
        assert fields(self.post(api(alice), key)) == {"Idempotency-Key"}
        assert Command.objects.count() == 0


@pytest.mark.security
@pytest.mark.security_access
class TestAccess:
    def test_a_stranger_gets_nothing(self, api, command):
        stranger = api(None)
        for path in [URL, *(f"{URL}/{command.id}{part}" for part in PARTS)]:
            answer = stranger.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
        assert stranger.post(URL, {"text": "x"}, format="json").status_code == 401
        assert stranger.post(f"{URL}/{command.id}/cancel").status_code == 401

    @pytest.mark.parametrize("part", PARTS)
    def test_another_persons_command_is_as_unknown_as_one_that_does_not_exist(self, api, bob, admin, command, part):
        for user in (bob, admin):
            foreign = api(user).get(f"{URL}/{command.id}{part}")
            missing = api(user).get(f"{URL}/{uuid.UUID(int=0)}{part}")
            assert foreign.status_code == missing.status_code == 404
            assert foreign.json()["code"] == missing.json()["code"] == "not_found"

    def test_nobody_cancels_another_persons_command(self, api, bob, admin, command):
        for user in (bob, admin):
            assert api(user).post(f"{URL}/{command.id}/cancel").status_code == 404
        command.refresh_from_db()
        assert command.status == "queued"

    def test_the_list_shows_ones_own(self, api, alice, bob, command):
        assert [row["id"] for row in api(alice).get(URL).json()["results"]] == [str(command.id)]
        assert api(bob).get(URL).json()["results"] == []


class TestList:
    def test_the_newest_comes_first_and_pages_follow_by_cursor(self, alice, api):
        ids = [str(command_submit(user=alice, text=f"echo {number}").id) for number in range(5)]
        client = api(alice)
        page = client.get(URL, {"limit": 2}).json()
        seen = [row["id"] for row in page["results"]]
        while page["next"]:
            page = client.get(page["next"]).json()
            seen += [row["id"] for row in page["results"]]
        assert seen == ids[::-1]

    @pytest.mark.parametrize("query", ["status=queued", "status=queued&status=failed", "status=failed,queued"])
    def test_it_can_be_narrowed_to_several_statuses(self, alice, api, command, query):
        assert len(api(alice).get(f"{URL}?{query}").json()["results"]) == 1

    def test_a_status_that_fits_none_gives_none(self, alice, api, command):
        assert api(alice).get(f"{URL}?status=failed").json()["results"] == []

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("status=done", "status"),
            ("limit=0", "limit"),
            ("limit=x&limit=5", "limit"),
            ("limit=", "limit"),
            ("limit=101", "limit"),
            ("cursor=x", "cursor"),
            ("q=x", "q"),
        ],
    )
    def test_a_filter_that_is_not_known_is_an_error(self, alice, api, query, field):
        answer = api(alice).get(f"{URL}?{query}")
        assert answer.status_code == 400
        assert field in {name.split(".")[0] for name in fields(answer)}


class TestReading:
    def test_events_after_a_number(self, alice, api, command):
        client = api(alice)
        everything = client.get(f"{URL}/{command.id}/events").json()["results"]
        assert [event["seq"] for event in everything] == [1]
        assert everything[0]["room"] == f"command:{command.id}"
        assert everything[0]["command"] == {"id": str(command.id), "status": "queued", "stage": None, "progress": 0}
        assert client.get(f"{URL}/{command.id}/events?after=1").json()["results"] == []
        for bad in ("-1", "x", "1.5", "1.0", "", "%EF%BC%91", "99999999999"):
            assert client.get(f"{URL}/{command.id}/events?after={bad}").status_code == 400

    def test_the_result_of_what_has_not_finished_is_409(self, alice, api, command):
        answer = api(alice).get(f"{URL}/{command.id}/result")
        assert (answer.status_code, answer.json()["code"]) == (409, "command_not_finished")

    def test_the_timeline_says_what_is_waited_for(self, alice, api, command):
        body = api(alice).get(f"{URL}/{command.id}/timeline").json()
        assert body["results"] == []
        assert "worker" in body["waiting_for"]

    @pytest.mark.django_db(transaction=True)
    def test_a_completed_command(self, alice, api, sandbox):
        command = drive(command_submit(user=alice, text="calc 6*7"))
        client = api(alice)
        body = client.get(f"{URL}/{command.id}").json()
        assert (body["status"], body["stage"], body["progress"], body["error"]) == ("completed", None, 100, None)
        assert [file["kind"] for file in body["files"]] == ["alt", "last", "atlas"]
        result = client.get(f"{URL}/{command.id}/result").json()
        assert (result["status"], result["success_rate"], result["output"]) == ("completed", 1.0, "42")
        timeline = client.get(f"{URL}/{command.id}/timeline").json()
        assert timeline["waiting_for"] is None
        assert [run["outcome"] for run in timeline["results"]] == ["succeeded"] * 3
        for file in body["files"]:
            answer = client.get(file["url"])
            assert answer.status_code == 200
            assert len(answer.content) == file["size"]

    @pytest.mark.django_db(transaction=True)
    def test_a_failed_command_says_where_why_and_whether_to_try_again(self, alice, api, sandbox, settings):
        settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": ["http://127.0.0.1:1"]}
        command = drive_to_trouble(command_submit(user=alice, text="calc 6*7"), Stage.RUNNER, settings)
        client = api(alice)
        error = client.get(f"{URL}/{command.id}").json()["error"]
        assert error == {
            "code": "runner_unavailable",
            "detail": "The runner service could not be reached. (the connection was refused)",
            "stage": "runner",
            "retryable": True,
        }
        result = client.get(f"{URL}/{command.id}/result").json()
        assert (result["status"], result["success_rate"], result["error"]) == ("failed", None, error)


class TestCancelling:
    def test_a_queued_command_is_cancelled_and_again_is_no_error(self, alice, api, command):
        client = api(alice)
        for _ in range(2):
            answer = client.post(f"{URL}/{command.id}/cancel")
            assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")

    @pytest.mark.django_db(transaction=True)
    def test_a_completed_command_is_409(self, alice, api, sandbox):
        command = drive(command_submit(user=alice, text="echo x"))
        answer = api(alice).post(f"{URL}/{command.id}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (409, "command_not_cancellable")
