"""What is read from the `.alt` and the `.last`: the same, however they are written."""

import json

import pytest
import yaml
from django.utils import timezone

from commands.api.serializers import result_output
from commands.models import Command, CommandResult
from commands.results import result_of
from files.formats import MAX_FILE_BYTES, parse_alt, parse_last
from files.tests.formats.samples import SEGMENTS_SAMPLES, TASKS_SAMPLE, last, sample

SEGMENTS = {
    "id": "alt-1",
    "segments": [
        {"segment_id": "one", "content": "list the files", "parameters": [{"name": "path", "value": "/"}]},
        {"segment_id": 2, "parameters": {"content": "sort them"}, "dependencies": ["one"]},
        {"segment_id": "three", "description": "show ten", "dependencies": [2]},
    ],
}
TASKS = {
    "id": "alt-1",
    "tasks": [
        {"id": "one", "description": "list the files", "parameters": {"path": "/"}, "dependencies": None},
        {"id": 2, "description": "sort them", "dependencies": ["one"]},
        {"id": "three", "description": "show ten", "dependencies": [2]},
    ],
}
PARTLY = {
    "status": "PartialSuccess",
    "success_rate": 0.6667,
    "summary": "2 of 3",
    "task_results": {
        "2": {"status": "success", "output": "b\na\n", "error": "", "execution_time_ms": 12.4},
        "one": {"status": "success", "output": "a\nb", "error": None, "duration_ms": 7},
        "three": {"status": "failed", "output": None, "error": {"code": 3}},
    },
}
EXPECTED = [
    {
        "id": "one",
        "description": "list the files",
        "status": "success",
        "output": "a\nb",
        "error": None,
        "duration_ms": 7,
    },
    {"id": "2", "description": "sort them", "status": "success", "output": "b\na\n", "error": None, "duration_ms": 12},
    {
        "id": "three",
        "description": "show ten",
        "status": "failed",
        "output": "",
        "error": '{"code": 3}',
        "duration_ms": None,
    },
]


def read(alt, **fields):
    text = alt if isinstance(alt, str) else json.dumps(alt)
    return result_of(Command(), parse_alt(text), parse_last(last(**fields)))


def outputs(*given):
    """The output of as many tasks as there are values."""
    alt = {"id": "alt-1", "tasks": [{"id": str(number)} for number in range(len(given))]}
    results = {str(number): {"status": "success", "output": output} for number, output in enumerate(given)}
    return read(alt, task_results=results).output


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
@pytest.mark.parametrize("alt", [SEGMENTS, TASKS], ids=["segments", "tasks"])
def test_the_result_is_the_same_for_both_formats_and_both_ways_to_write_them(alt, write):
    result = read(write(alt), **PARTLY)
    assert result.tasks == EXPECTED
    assert (result.success_rate, result.summary, result.output) == (0.6667, "2 of 3", "a\nb\nb\na")


@pytest.mark.parametrize("name", [*SEGMENTS_SAMPLES, TASKS_SAMPLE])
@pytest.mark.parametrize("as_the_runner_gets_it", [False, True])
def test_of_files_from_the_field_each_task_has_its_result(name, as_the_runner_gets_it):
    """The runner gets the tasks in its own dialect, under the same ids."""
    alt = parse_alt(sample(name))
    text = alt.to_tasks_json() if as_the_runner_gets_it else sample(name)
    results = {task.id: {"status": "success", "output": f"did {task.description}"} for task in reversed(alt.tasks)}
    result = read(text, task_results=results)
    assert [task["description"] for task in result.tasks] == [task.description for task in alt.tasks]
    assert all(task["description"] and task["status"] == "success" for task in result.tasks)
    assert result.output == "\n".join(f"did {task.description}" for task in alt.tasks)


def test_what_the_runner_says_nothing_of_was_not_reported_and_what_it_adds_comes_last():
    result = read(TASKS, task_results={"extra": {"output": "more"}, "2": None})
    assert [(task["id"], task["status"]) for task in result.tasks] == [
        ("one", "not_reported"),
        ("2", "not_reported"),
        ("three", "not_reported"),
        ("extra", "unknown"),
    ]
    assert result.output == "more"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["a", "b"], "a\nb"),
        (["a\n", "b\r\n", "\nc\n\n"], "a\nb\n\nc"),
        (["", None, "\n", "b"], "b"),
        ([0, False, [1], {"ş": None}], '0\nfalse\n[1]\n{"ş": null}'),
        ([], ""),
    ],
)
def test_outputs_stand_one_below_the_other(given, text):
    given = given or [None]
    assert outputs(*given) == text


def test_a_status_that_is_not_text_does_not_make_a_result_worthless():
    assert read(TASKS, task_results={"one": {"status": True}}).tasks[0]["status"] == "true"


@pytest.mark.parametrize(("given", "told"), [("", "67 % of 3 tasks succeeded."), (" \n", "67 % of 3 tasks succeeded.")])
def test_without_a_summary_it_is_told_how_many_tasks_succeeded(given, told):
    result = read(TASKS, **(PARTLY | {"summary": given}))
    assert result.summary == ""  # the sentence is made when somebody reads it, in their language
    assert result_output(Command(status="completed"), result)["summary"] == told
    fields = {name: value for name, value in PARTLY.items() if name != "summary"}
    assert result_output(Command(status="completed"), read(TASKS, **fields))["summary"] == told


def test_a_summary_that_is_a_structure_is_written_out():
    assert read(TASKS, summary={"done": 2}).summary == '{"done": 2}'


def test_nothing_was_run():
    output = result_output(Command(status="failed", error_code="segmentation_failed"), None)
    assert (output["success_rate"], output["summary"], output["output"], output["tasks"]) == (None, "", "", [])


@pytest.mark.django_db
def test_an_output_as_large_as_a_file_may_be_is_kept_and_read(alice, api):
    size = MAX_FILE_BYTES - 1000
    command = Command.objects.create(user=alice, text="x", status="completed", finished_at=timezone.now())
    alt = parse_alt(json.dumps({"id": "a", "tasks": [{"id": "one"}]}))
    result_of(command, alt, parse_last(last(task_results={"one": {"output": "x" * size}}))).save()
    body = api(alice).get(f"/api/v2/commands/{command.id}/result").json()
    assert body["output"] == body["tasks"][0]["output"] == "x" * size
    assert CommandResult.objects.get().summary == ""
