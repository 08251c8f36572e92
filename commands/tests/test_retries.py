"""A command once more: what had succeeded is not done again, and the old one stays as it is."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands.models import Command
from commands.retries import TAKEN_OVER, command_retry
from commands.services import command_cancel, command_submit
from commands.states import Stage, Status
from commands.transitions import command_transition
from conftest import drive, drive_until
from files.selectors import file_text
from gateway.api.errors import ApiError, ErrorCode
from gateway.tests.expect import fields_of, problem_of
from tests.rows import ended_command, ended_step

pytestmark = pytest.mark.django_db(transaction=True)


def url(command):
    return f"/api/v2/commands/{command.id}/retry"


def failed_at(alice, sandbox, stage, **values):
    """Return a command that failed in that stage, whose service is well again."""
    service = getattr(sandbox, stage)
    service.fault("fail", status=422)
    command = drive(command_submit(user=alice, text="echo hello", **values))
    service.behave()
    assert (command.status, command.error_code) == (Status.FAILED, f"{stage}_refused")
    return command


def works(sandbox, command):
    return [getattr(sandbox, stage).works_of(f"{command.id}:{stage}") for stage in Stage]


@pytest.mark.parametrize(
    ("stage", "expected"), [(Stage.SEGMENTATION, [1, 1, 1]), (Stage.RUNNER, [0, 1, 1]), (Stage.ARCHIVE, [0, 0, 1])]
)
def test_it_goes_on_after_the_last_stage_that_succeeded(alice, sandbox, stage, expected):
    old = failed_at(alice, sandbox, stage)
    again = command_retry(user=alice, command=old)
    assert (again.retry_of, again.begins_with) == (old, None if stage is Stage.SEGMENTATION else stage)
    again = drive(again)
    assert again.status == Status.COMPLETED
    assert works(sandbox, again) == expected
    assert again.result.output == "hello"
    assert [file.kind for file in again.files] == ["alt", "last", "atlas"]
    kept = Command.objects.get(id=old.id)
    assert (kept.status, kept.last_seq, kept.files) == (Status.FAILED, old.last_seq, old.files)


def test_a_retry_of_a_retry_goes_on_where_the_first_one_had_come_to(alice, sandbox):
    """Also when the second did nothing at all; and services get their own names of what the first one made."""
    first = failed_at(alice, sandbox, Stage.ARCHIVE)
    second = command_cancel(command=command_retry(user=alice, command=first))
    third = drive(command_retry(user=alice, command=second))
    assert third.status == Status.COMPLETED
    assert works(sandbox, third) == [0, 0, 1]
    atlas = json.loads(file_text(third.atlas_file))
    assert atlas["last_file_id"] == first.stage_runs.get(stage=Stage.RUNNER).remote_file_id
    assert atlas["metadata"]["command_id"] == str(third.id)


def test_what_is_no_longer_kept_is_named_by_our_own_id(alice, sandbox):
    old = failed_at(alice, sandbox, Stage.ARCHIVE)
    again = command_retry(user=alice, command=old)
    old.delete()
    again = drive(Command.objects.get(id=again.id))
    assert (again.status, again.retry_of) == (Status.COMPLETED, None)
    assert json.loads(file_text(again.atlas_file))["last_file_id"] == str(again.last_file_id)


def test_from_the_start_it_does_all_of_it(alice, sandbox):
    old = drive(command_submit(user=alice, text="echo hello"))
    again = drive(command_retry(user=alice, command=old, from_start=True))
    assert again.status == Status.COMPLETED
    assert works(sandbox, again) == [1, 1, 1]
    assert not set(again.files) & set(old.files)


def test_a_run_that_was_stopped_is_begun_anew(alice, sandbox):
    """What it left is no result of the new one."""
    old = command_submit(user=alice, text="echo first then sleep 600")
    old = drive_until(old, lambda command: command.events.filter(event="progress").exists(), steps=2000)
    old = drive(command_cancel(command=old))
    assert (old.status, old.last_file is not None) == (Status.CANCELLED, True)
    again = command_retry(user=alice, command=old)
    assert (again.begins_with, again.alt_file, again.last_file) == (Stage.RUNNER, old.alt_file, None)
    command_cancel(command=again)


def test_all_that_was_asked_for_is_taken_over_but_a_deadline_that_has_passed(alice, sandbox):
    given = {
        "mode": "chaos", "chaos_level": 7, "persona": "creative_writer", "priority": "high", "parameters": {"a": 1},
        "metadata": {"b": [2]}, "tags": ["c"], "deadline": timezone.now() + timedelta(hours=1),
    }  # fmt: skip
    old = failed_at(alice, sandbox, Stage.SEGMENTATION, **given)
    again = command_retry(user=alice, command=old)
    assert {field: getattr(again, field) for field in TAKEN_OVER} == {
        field: getattr(old, field) for field in TAKEN_OVER
    }
    assert again.deadline == old.deadline
    Command.objects.filter(id=old.id).update(deadline=timezone.now())
    assert command_retry(user=alice, command=old).deadline is None


def test_somebody_elses_retry_is_on_record_and_belongs_to_the_same_user(alice, admin):
    old = command_cancel(command=command_submit(user=alice, text="echo"))
    again = command_retry(user=admin, command=old, reason="the disk was full")
    assert again.user == alice
    assert again.events.get().data == {"retry_of": str(old.id), "reason": "the disk was full", "by": "admin"}
    assert command_retry(user=alice, command=old).events.get().data == {"retry_of": str(old.id)}


class TestEndpoint:
    def test_it_is_201_with_location_and_queued_for_the_next_stage(self, api, alice, sandbox):
        old = failed_at(alice, sandbox, Stage.ARCHIVE)
        answer = api(alice).post(url(old))
        body = answer.json()
        assert (answer.status_code, answer["Location"]) == (201, f"/api/v2/commands/{body['id']}")
        assert (body["retry_of"], body["status"], body["stage"], body["progress"]) == (
            str(old.id),
            "queued",
            "archive",
            85,
        )
        assert [file["kind"] for file in body["files"]] == ["alt", "last"]
        assert body["links"]["retry"] == url(Command.objects.get(id=body["id"]))

    @pytest.mark.parametrize("stage", Stage)
    def test_the_same_key_gets_the_same_answer_even_after_the_end(self, api, alice, sandbox, stage):
        old, client = failed_at(alice, sandbox, stage), api(alice)
        first = client.post(url(old), HTTP_IDEMPOTENCY_KEY="k")
        drive(Command.objects.get(id=first.json()["id"]))
        second = client.post(url(old), HTTP_IDEMPOTENCY_KEY="k")
        assert (second.status_code, second.json(), second["Location"]) == (201, first.json(), first["Location"])
        problem_of(
            client.post(url(old), {"from": "start"}, format="json", HTTP_IDEMPOTENCY_KEY="k"),
            ErrorCode.IDEMPOTENCY_KEY_REUSED,
        )
        assert Command.objects.count() == 2

    def test_what_has_not_ended_and_what_has_completed_is_409(self, api, alice):
        client = api(alice)
        problem_of(client.post(url(command_submit(user=alice, text="echo"))), ErrorCode.COMMAND_NOT_FINISHED)
        completed = ended_command(alice)
        problem_of(client.post(url(completed)), ErrorCode.COMMAND_NOT_RETRYABLE)
        problem_of(client.post(url(ended_step(alice, Stage.RUNNER))), ErrorCode.COMMAND_NOT_RETRYABLE)
        assert client.post(url(completed), {"from": "start"}, format="json").status_code == 201

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"from": "runner"}, "from"),
            ({"from": None}, "from"),
            ({"from": ["start"]}, "from"),
            ({"text": "x"}, "text"),
            ([], "body"),
            (None, "body"),
        ],
    )
    def test_bad_input_is_named_and_changes_nothing(self, api, alice, body, field):
        old = command_cancel(command=command_submit(user=alice, text="echo"))
        answer = api(alice).post(url(old), json.dumps(body), content_type="application/json")
        assert set(fields_of(answer)) == {field}
        assert Command.objects.count() == 1

    @pytest.mark.security
    @pytest.mark.security_access
    def test_nobody_retries_another_persons_command(self, api, alice, bob, admin):
        old = command_cancel(command=command_submit(user=alice, text="echo"))
        for user in (bob, admin):
            problem_of(api(user).post(url(old)), ErrorCode.NOT_FOUND)
        problem_of(api(None).post(url(old)), ErrorCode.NOT_AUTHENTICATED)
        assert Command.objects.count() == 1


def test_a_retry_at_the_moment_of_the_end_is_refused_or_right(alice):
    """Whoever saw the end gets the one retry of the key; whoever did not is told so."""
    old = command_submit(user=alice, text="echo hello")
    barrier = threading.Barrier(9)

    def at_once(act):
        try:
            barrier.wait()
            return act()
        except ApiError as error:
            return error.error_code
        finally:
            connection.close()

    def end():
        command_transition(Command.objects.get(id=old.id), Status.FAILED)

    def retry():
        return command_retry(user=alice, command=Command.objects.get(id=old.id), idempotency_key="k").id

    with ThreadPoolExecutor(9) as pool:
        outcomes = set(pool.map(at_once, [end] + [retry] * 8))
    again = retry()
    assert outcomes <= {None, ErrorCode.COMMAND_NOT_FINISHED, again}
    assert Command.objects.count() == 2
