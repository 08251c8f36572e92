"""The main job, through real services over HTTP."""

import pytest
import requests  # noqa: TID251 - compares with what the service itself hands out
from django.db import connection

from commands.models import Command, Outcome, StageRun
from commands.services import command_cancel, command_submit
from commands.states import Stage, Status
from conftest import drive, drive_until
from files.selectors import file_text
from gateway.ids import new_id
from integrations.discovery import sync_instances
from integrations.models import ServiceInstance
from integrations.services import instance_delete

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_command_goes_in_and_an_archived_result_comes_out(alice, sandbox):
    command = drive(command_submit(user=alice, text="echo Merhaba dünya ve ardından calc 6*7"))
    assert command.status == Status.COMPLETED
    assert command.progress == 100
    assert command.started_at is not None
    assert command.finished_at >= command.started_at
    assert command.result.output == "Merhaba dünya\n42"
    assert command.result.success_rate == 1
    assert [task["status"] for task in command.result.tasks] == ["success", "success"]
    assert [file.kind for file in command.files] == ["alt", "last", "atlas"]


def test_its_events_are_numbered_from_one_without_a_gap(alice, sandbox):
    command = drive(command_submit(user=alice, text="echo hello"))
    events = list(command.events.all())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].seq == command.last_seq
    steps = [event.event for event in events if event.event != "progress"]
    assert steps == ["queued", "segmenting", "running", "archiving", "completed"]
    assert [event.progress for event in events] == sorted(event.progress for event in events)


def test_the_files_are_kept_byte_for_byte(alice, sandbox):
    command = drive(command_submit(user=alice, text="echo hello"))
    for stage, service, file in zip(Stage, sandbox, command.files, strict=True):
        name = command.stage_runs.get(stage=stage).remote_file_id
        answer = requests.get(f"{service.url}/files/{file.kind}/{name}", timeout=5).json()
        assert file_text(file) == answer["content"]
        assert file.owner == alice


def test_each_stage_is_one_try_with_its_own_key(alice, sandbox):
    command = drive(command_submit(user=alice, text="echo hello"))
    runs = list(command.stage_runs.all())
    assert [(run.stage, run.attempt, run.outcome) for run in runs] == [
        (stage, 1, Outcome.SUCCEEDED) for stage in Stage.values
    ]
    for run, service in zip(runs, sandbox, strict=True):
        assert run.idempotency_key == f"{command.id}:{run.stage}"
        assert run.instance == service.url
        assert run.remote_id
        assert run.finished_at >= run.started_at
        assert service.works_of(run.idempotency_key) == 1


def test_what_the_runner_cannot_do_is_reported_and_is_no_success(alice, sandbox):
    command = drive(command_submit(user=alice, text="Dosyaları sırala ve en büyük 10 tanesini göster"))
    assert command.status == Status.COMPLETED
    assert command.result.success_rate == 0
    assert {task["status"] for task in command.result.tasks} == {"not_executed"}
    assert all(task["error"] for task in command.result.tasks)


def test_a_run_that_fails_fails_the_command_and_keeps_what_it_left(alice, sandbox):
    command = drive(command_submit(user=alice, text="fail the disk is full"))
    assert (command.status, command.error_code, command.error_stage) == (Status.FAILED, "runner_failed", Stage.RUNNER)
    assert "the disk is full" in command.error_cause
    assert command.last_file is not None
    assert command.atlas_file is None
    assert command.result.tasks[0]["error"] == "the disk is full"


def test_a_chaos_level_reaches_the_services(alice, sandbox):
    command = drive(command_submit(user=alice, text="echo hello", mode="chaos", chaos_level=7))
    assert "chaos_level: 7" in file_text(command.alt_file)


def test_a_command_with_a_target_goes_where_the_tag_is(alice, sandbox, settings):
    """The other runner would not even answer."""
    settings.SERVICE_PRIVATE_ADDRESSES = True
    settings.SERVICE_URLS |= {"runner": ["http://127.0.0.1:1"]}
    ServiceInstance.objects.create(kind="runner", base_url=sandbox.runner.url, source="api", tags=["gpu"])
    for _ in range(3):
        command = drive(command_submit(user=alice, text="echo hello", target="gpu"))
        assert command.status == Status.COMPLETED
        assert [run.instance for run in command.stage_runs.filter(stage=Stage.RUNNER)] == [sandbox.runner.url]


def test_calls_that_fail_make_an_instance_ill_and_the_work_goes_to_another(alice, sandbox, settings):
    settings.SERVICE_URLS |= {"runner": [sandbox.runner.url, "http://127.0.0.1:1"]}
    sync_instances()
    for _ in range(4):
        assert drive(command_submit(user=alice, text="echo hello")).status == Status.COMPLETED
    ill = ServiceInstance.objects.get(base_url="http://127.0.0.1:1")
    assert (ill.is_healthy, ill.health_reason) == (False, "unavailable")
    before = StageRun.objects.filter(instance=ill.base_url).count()
    drive(command_submit(user=alice, text="echo hello"))
    assert StageRun.objects.filter(instance=ill.base_url).count() == before


@pytest.fixture
def at_work(alice, sandbox, slow_work, settings):
    """A command that the runner has accepted; there is another one, which does not even answer."""
    settings.SERVICE_URLS |= {"runner": []}
    settings.SERVICE_PRIVATE_ADDRESSES = True
    for url in (sandbox.runner.url, "http://127.0.0.1:1"):
        ServiceInstance.objects.create(kind="runner", base_url=url, source="api", is_healthy=url == sandbox.runner.url)
    runs = StageRun.objects.filter(stage=Stage.RUNNER).exclude(remote_id="")
    return drive_until(command_submit(user=alice, text="echo hello"), lambda _command: runs.exists())


def test_an_instance_that_has_left_is_asked_after_what_it_has(at_work, alice, sandbox):
    instance_delete(actor=alice, instance=ServiceInstance.objects.get(base_url=sandbox.runner.url))
    assert drive(at_work).status == Status.COMPLETED
    assert at_work.stage_runs.filter(stage=Stage.RUNNER).count() == 1
    assert sandbox.runner.works_of(f"{at_work.id}:runner") == 1


def test_nobody_else_is_asked_for_the_work_of_one_that_nobody_knows_any_more(at_work, sandbox, settings):
    ServiceInstance.objects.filter(base_url=sandbox.runner.url).delete()
    settings.STAGE_RETRY_WINDOW = 0
    command = drive(at_work)
    assert (command.status, command.error_code) == (Status.FAILED, "runner_unavailable")
    assert command.stage_runs.filter(stage=Stage.RUNNER).count() == 1
    assert ServiceInstance.objects.get().failures_in_row == 0


def test_an_instance_whose_dialect_nobody_speaks_fails_the_command_with_the_reason(at_work, alice, settings):
    """Before it has work, and while it has: its row is of another release, perhaps."""
    ServiceInstance.objects.update(dialect="unknown", is_healthy=True)
    settings.STAGE_RETRY_WINDOW = 0
    for each in (at_work, command_submit(user=alice, text="echo hello")):
        ended = drive(each)
        assert (ended.status, ended.error_code) == (Status.FAILED, "runner_unavailable")
        assert ended.error_cause == "its dialect is not known here"
        assert not ended.stage_runs.filter(finished_at=None).exists()


def test_what_nobody_was_given_is_cancelled_without_asking_anybody(alice, sandbox, settings):
    runner = settings.SERVICE_URLS["runner"]
    settings.SERVICE_URLS |= {"runner": []}
    tries = StageRun.objects.filter(stage=Stage.RUNNER)
    command = drive_until(command_submit(user=alice, text="echo hello"), lambda _command: tries.exists())
    settings.SERVICE_URLS |= {"runner": runner}
    command_cancel(command=command)
    assert drive(command).status == Status.CANCELLED
    assert sandbox.runner.works_of(f"{command.id}:runner") == 0


def test_the_release_before_this_one_inserts_commands_without_a_target(alice):
    command = command_submit(user=alice, text="echo hello")
    columns = [field.column for field in Command._meta.concrete_fields if field.column not in ("id", "target")]
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        insert = f"INSERT INTO commands_command (id, {names}) SELECT %s, {names} FROM commands_command"  # noqa: S608 - names of columns
        cursor.execute(insert, [new_id().hex])
    assert list(Command.objects.exclude(id=command.id).values_list("target", flat=True)) == [""]
