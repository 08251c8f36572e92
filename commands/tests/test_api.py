"""Commands in the API: sent, read, listed and cancelled, by whose they are."""

import json
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from commands.models import Command
from commands.services import command_submit
from commands.states import Stage
from commands.tests.calls import URL, fields
from conftest import drive, drive_to_trouble
from gateway.tests.expect import fields_of
from integrations.models import ServiceInstance

pytestmark = pytest.mark.django_db

PARTS = ["", "/events", "/timeline", "/result"]


@pytest.fixture
def command(alice):
    return command_submit(user=alice, text="echo hello")


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
