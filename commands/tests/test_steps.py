"""One stage by itself, from the API through real services and back."""

import json
from itertools import count

import pytest

from accounts.models import Role
from accounts.tests.people import person_with
from commands.models import Command, StageRun
from commands.selectors import visible_last_seqs
from commands.states import Stage
from commands.tests.test_crash import dying_at, let_the_lease_expire
from conftest import drive, drive_to_trouble, drive_until
from files.models import Kind, StoredFile
from files.selectors import file_text
from files.tests.rows import stored_file
from gateway.api.errors import ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import escaped_json, fields_of, problem_of
from tests.rows import ended_command

V2 = "/api/v2"
ALT = """
id: my-tasks
mode: dream
persona: researcher
segments:
  - {id: one, content: "echo Merhaba"}
  - {id: two, content: "calc 6*7", dependencies: [one]}
"""
LAST = json.dumps(
    {"id": "my-run", "status": "success", "success_rate": 0.5, "task_results": {"one": {"status": "success"}}}
)
BODIES = {"segmentation": {"text": "echo hello"}, "runner": {"content": ALT}, "archive": {"content": LAST}}

end_to_end = pytest.mark.django_db(transaction=True)
quick = pytest.mark.django_db


def post(client, kind, body, key=None):
    return client.post(f"{V2}/{kind}", body, format="json", **({"HTTP_IDEMPOTENCY_KEY": key} if key else {}))


def step_of(answer):
    assert answer.status_code == 202, answer.content
    return Command.objects.get(id=answer.json()["id"])


def done(client, kind, body):
    """Send a step, let workers do it, and return what the client reads in the end, and the content of the file."""
    answer = post(client, kind, body)
    drive(step_of(answer))
    read = client.get(answer["Location"]).json()
    assert (read["kind"], read["status"], read["progress"], read["error"]) == (kind, "completed", 100, None)
    return read, client.get(read["file"]["url"]).content.decode()


@end_to_end
def test_three_steps_in_a_row_do_what_a_command_does(alice, api, sandbox):
    client = api(alice)
    split, alt = done(client, "segmentation", {"text": "echo Merhaba ve ardından calc 6*7", "metadata": {"t": "T-1"}})
    run, last = done(client, "runner", {"file": split["file"]["id"]})
    archived, atlas = done(client, "archive", {"file": run["file"]["id"], "tags": ["demo"]})
    assert [each["file"]["kind"] for each in (split, run, archived)] == ["alt", "last", "atlas"]
    assert "echo Merhaba" in alt
    assert [task["output"] for task in json.loads(last)["task_results"].values()] == ["Merhaba", "42"]
    assert json.loads(atlas)["tags"] == ["demo"]
    for each, service in zip((split, run, archived), sandbox, strict=True):
        assert each["instance"] == service.url
        assert service.works_of(f"{each['id']}:{each['kind']}") == 1
        assert [run.stage for run in StageRun.objects.filter(command=each["id"])] == [each["kind"]]
        assert each["finished_at"] >= each["created_at"]
    assert StoredFile.objects.filter(owner=alice).count() == 3


@end_to_end
def test_an_alt_of_ones_own_is_run_as_it_says_itself_unless_told_otherwise(alice, api, sandbox):
    client = api(alice)
    read, last = done(client, "runner", {"content": ALT})
    assert (json.loads(last)["mode"], json.loads(last)["persona"]) == ("dream", "researcher")
    step = Command.objects.get(id=read["id"])
    assert (file_text(step.alt_file), step.alt_file.name, step.alt_file.owner) == (ALT, "my-tasks.alt", alice)
    told = {"mode": "explore", "persona": "learning_tutor", "priority": "high", "parameters": {"depth": 1}}
    again, last = done(client, "runner", {"file": str(step.alt_file_id), **told})
    assert (json.loads(last)["mode"], json.loads(last)["persona"]) == ("explore", "learning_tutor")
    assert {name: getattr(Command.objects.get(id=again["id"]), name) for name in told} == told


@end_to_end
def test_what_is_said_of_a_last_goes_with_it_and_whose_it_is_cannot_be_said(alice, api, sandbox):
    metadata = {"ticket": "T-1", "user_id": "somebody else", "success_rate": 1}
    read, atlas = done(api(alice), "archive", {"content": LAST, "metadata": metadata})
    ours = {"user_id": str(alice.id), "command_id": read["id"], "success_rate": 0.5}
    assert json.loads(atlas)["metadata"] == {"ticket": "T-1", "tags": []} | ours


@end_to_end
@pytest.mark.parametrize("kind", Stage.values)
def test_the_same_key_and_body_get_the_same_answer_and_another_body_422(alice, bob, api, sandbox, monkeypatch, kind):
    client = api(alice)
    first = post(client, kind, BODIES[kind], key="k-1")
    assert (first.json()["status"], first.json()["instance"], first.json()["file"]) == ("queued", None, None)
    files = StoredFile.objects.count()
    drive(step_of(first))
    with monkeypatch.context() as changed:  # nothing is written for a repeat
        changed.setattr("files.services.default_storage.save", None)
        second = post(client, kind, BODIES[kind], key="k-1")
    assert (second.status_code, second.json(), second["Location"]) == (202, first.json(), first["Location"])
    other = next(name for name in BODIES if name != kind)
    for path, body in (
        (kind, BODIES[kind] | {"metadata" if kind != "runner" else "parameters": {"a": 1}}),
        (other, BODIES[other]),
        ("commands", {"text": "echo hello"}),
    ):
        problem_of(post(client, path, body, key="k-1"), ErrorCode.IDEMPOTENCY_KEY_REUSED)
    assert Command.objects.count() == 1
    assert StoredFile.objects.count() == files + 1  # what the service made
    assert step_of(post(api(bob), kind, BODIES[kind], key="k-1")).user == bob


@end_to_end
@pytest.mark.timeout(240)  # tracing is slow
def test_a_worker_that_dies_at_some_lines_loses_and_doubles_nothing(alice, api, sandbox):
    """The way of the others is the same: commands/tests/test_crash.py."""
    client = api(alice)
    for line in count(11, 67):
        step = step_of(post(client, "runner", {"content": ALT}))
        with dying_at(line) as counter:
            drive(step)
        let_the_lease_expire(step)
        assert drive(step).status == "completed"
        assert sandbox.runner.works_of(f"{step.id}:runner") == 1
        assert StageRun.objects.filter(command=step, outcome="succeeded").count() == 1
        assert not StageRun.objects.filter(command=step, finished_at=None).exists()
        if counter.lines < line:
            break
    assert line > 100  # the way is as long as it was thought to be


@end_to_end
def test_a_service_that_is_away_fails_the_step_with_the_reason(alice, api, sandbox, settings):
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": ["http://127.0.0.1:1"]}
    client = api(alice)
    answer = post(client, "runner", {"content": ALT})
    drive_to_trouble(step_of(answer), Stage.RUNNER, settings)
    read = client.get(answer["Location"]).json()
    assert (read["status"], read["file"], read["instance"]) == ("failed", None, "http://127.0.0.1:1")
    assert (read["error"]["code"], read["error"]["retryable"]) == ("runner_unavailable", True)
    assert read["error"]["detail"] == "The runner service could not be reached. (the connection was refused)"


@end_to_end
def test_a_run_is_stopped_and_again_is_no_error_and_one_that_has_ended_is_409(alice, api, sandbox):
    client = api(alice)
    slow = {"content": ALT.replace("echo Merhaba", "sleep 50")}
    queued = post(client, "runner", slow)
    running = post(client, "runner", slow)
    drive_until(step_of(running), lambda step: step.stage_runs.exclude(remote_id="").exists())
    for answer, status in ((queued, "cancelled"), (running, "cancelling"), (running, "cancelling")):
        cancel = client.post(f"{answer['Location']}/cancel")
        assert (cancel.status_code, cancel.json()["status"]) == (202, status)
    drive(step_of(running))
    for answer in (queued, running):
        assert client.get(answer["Location"]).json()["status"] == "cancelled"
        assert client.post(f"{answer['Location']}/cancel").status_code == 202
    ended, _last = done(client, "runner", {"content": ALT})
    problem_of(client.post(f"{ended['links']['self']}/cancel"), ErrorCode.COMMAND_NOT_CANCELLABLE)


BAD = [
    ("segmentation", {}, "text", "required"),
    ("segmentation", {"text": "x" * 10_001}, "text", "max_length"),
    ("segmentation", {"text": "x", "mode": "Normal"}, "mode", "invalid_choice"),
    ("segmentation", {"text": "x", "chaos_level": 5}, "chaos_level", "invalid"),
    ("segmentation", {"text": "x", "persona": "Technical Expert"}, "persona", "invalid"),
    ("segmentation", {"text": "x", "metadata": []}, "metadata", "not_a_dict"),
    ("segmentation", {"text": "x", "priority": "high"}, "priority", "unknown_field"),
    ("runner", {}, "content", "required"),
    ("runner", {"content": ALT, "file": str(new_id())}, "content", "required"),
    ("runner", {"content": ""}, "content", "blank"),
    ("runner", {"content": {"id": "x"}}, "content", "invalid"),
    ("runner", {"content": "{"}, "content", "alt_not_parsable"),
    ("runner", {"content": "id: x"}, "content", "alt_invalid"),
    ("runner", {"content": ALT.replace("[one]", "[three]")}, "content", "alt_unknown_dependency"),
    ("runner", {"content": ALT.replace("[one]", "[two]")}, "content", "alt_cycle"),
    ("runner", {"content": "a\ud800b"}, "content", "surrogate_characters_not_allowed"),
    ("runner", {"file": "x"}, "file", "invalid"),
    ("runner", {"file": str(new_id())}, "file", "does_not_exist"),
    ("runner", {"content": ALT, "priority": "urgent"}, "priority", "invalid_choice"),
    ("runner", {"content": ALT, "mode": None}, "mode", "null"),
    ("runner", {"content": ALT, "parameters": {"a": "x" * 70_000}}, "parameters", "too_large"),
    ("archive", {"content": ALT}, "content", "last_not_parsable"),
    ("archive", {"content": "{}"}, "content", "last_invalid"),
    ("archive", {"content": LAST, "tags": ["a", "a"]}, "tags", "invalid"),
    ("archive", {"content": LAST, "mode": "normal"}, "mode", "unknown_field"),
]


@quick
def test_bad_input_is_refused_by_the_name_of_its_field_and_changes_nothing(alice, api):
    client = api(alice)
    for kind, body, field, code in BAD:
        assert fields_of(client.post(f"{V2}/{kind}", **escaped_json(body))) == {field: code}, (kind, body)
    problem_of(post(client, "runner", []), ErrorCode.VALIDATION_ERROR)
    assert not Command.objects.exists()
    assert not StoredFile.objects.exists()


@quick
def test_a_storage_that_fails_refuses_the_step_for_now(alice, api, monkeypatch):
    def full(*_args):
        raise OSError("no space left")

    client = api(alice)
    lost = stored_file(alice, text=ALT)
    lost.content.storage.delete(lost.content.name)
    monkeypatch.setattr("files.services.default_storage.save", full)
    for body in ({"content": ALT}, {"file": str(lost.id)}):
        answer = post(client, "runner", body)
        problem_of(answer, ErrorCode.SERVICE_UNAVAILABLE)
        assert answer["Retry-After"]
    assert not Command.objects.exists()


@quick
@pytest.mark.security
@pytest.mark.security_access
def test_the_file_of_another_is_as_unknown_as_one_that_does_not_exist(alice, bob, admin, api):
    alt, last = stored_file(alice, text=ALT), stored_file(alice, kind=Kind.LAST, text=LAST)
    broken = stored_file(alice)
    for kind, own, foreign in (("runner", alt, last), ("archive", last, alt)):
        assert post(api(alice), kind, {"file": str(own.id)}).status_code == 202
        assert fields_of(post(api(alice), kind, {"file": str(foreign.id)})) == {"file": "does_not_exist"}
        for other in (bob, admin):
            refused, missing = (post(api(other), kind, {"file": str(id_)}) for id_ in (own.id, new_id()))
            assert fields_of(refused) == {"file": "does_not_exist"}
            assert refused.json()["errors"] == missing.json()["errors"]
    assert fields_of(post(api(alice), "runner", {"file": str(broken.id)})) == {"file": "alt_invalid"}


@quick
@pytest.mark.security
@pytest.mark.security_access
def test_the_step_of_another_is_not_there_and_who_only_reads_starts_and_stops_none(alice, bob, admin, api):
    steps = {kind: step_of(post(api(alice), kind, body)) for kind, body in BODIES.items()}
    for kind, step in steps.items():
        assert api(alice).get(f"{V2}/{kind}/{step.id}").json()["id"] == str(step.id)
        for other in (bob, admin):
            problem_of(api(other).get(f"{V2}/{kind}/{step.id}"), ErrorCode.NOT_FOUND)
            problem_of(api(other).post(f"{V2}/runner/{step.id}/cancel"), ErrorCode.NOT_FOUND)
        for wrong in BODIES.keys() - {kind}:
            problem_of(api(alice).get(f"{V2}/{wrong}/{step.id}"), ErrorCode.NOT_FOUND)
    problem_of(api(alice).get(f"{V2}/runner/{ended_command(alice).id}"), ErrorCode.NOT_FOUND)
    alice.groups.set([Role.objects.get(name=Role.VIEWER)])
    viewer = api(alice)
    run = f"{V2}/runner/{steps['runner'].id}"
    assert viewer.get(run).json()["status"] == "queued"
    for answer, permission in (
        *((post(viewer, kind, body), "commands.submit_step") for kind, body in BODIES.items()),
        (viewer.post(f"{run}/cancel"), "commands.cancel_own_command"),
    ):
        assert (answer.status_code, answer.json()["permission"]) == (403, permission)
    for answer in (post(api(None), "runner", BODIES["runner"]), api(None).post(f"{run}/cancel"), api(None).get(run)):
        problem_of(answer, ErrorCode.NOT_AUTHENTICATED)
    nobody = api(person_with("nobody"))
    assert nobody.get(run).status_code == nobody.get(f"{V2}/archive/search?q=x").status_code == 403
    assert {step.status for step in Command.objects.filter(only_stage__isnull=False)} == {"queued"}


@quick
def test_steps_are_not_in_the_list_of_commands_but_have_events_a_timeline_and_a_room(alice, api):
    client = api(alice)
    answer = post(client, "segmentation", BODIES["segmentation"])
    links = answer.json()["links"]
    assert client.get(f"{V2}/commands").json()["results"] == []
    [event] = client.get(links["events"]).json()["results"]
    assert (event["event"], event["command"]["stage"]) == ("queued", "segmentation")
    assert client.get(links["timeline"]).json()["waiting_for"].startswith("It is the next")
    step = step_of(answer)
    assert visible_last_seqs(user=alice, command_ids=[step.id]) == {step.id: (1, False)}  # the socket asks this
