import json
import time
from itertools import pairwise

import pytest
import yaml

from files.formats import FormatErrorCode, parse_alt
from files.tests.formats.samples import SEGMENTS_SAMPLES, TASKS_SAMPLE, alt, refusal, sample, segments

# The two tasks of the sample, in Turkish.
SORT, SHOW = "Dosyalar\u0131 s\u0131rala", "en büyük 10 tanesini göster"


def test_a_segments_file_in_yaml_is_read():
    document = parse_alt(sample("segments-0.alt"))

    assert document.dialect == "segments"
    assert document.id == "a6deb67c-255d-442c-be10-baf2fee257ec"
    assert document.created_at == "2025-04-28T00:28:21.922739"
    assert document.command == f"{SORT} ve {SHOW}"
    assert (document.language, document.mode, document.persona) == ("tr", "dream", "technical_expert")
    assert [task.description for task in document.tasks] == [SORT, SHOW]
    assert document.tasks[0].parameters == {"content": SORT}
    assert document.tasks[0].metadata == {"confidence": 0.5}


def test_a_tasks_file_in_json_is_read():
    document = parse_alt(sample(TASKS_SAMPLE))

    assert document.dialect == "tasks"
    assert document.title == "Example ALT File for Testing"
    assert document.metadata["priority"] == "high"
    assert [task.dependencies for task in document.tasks] == [(), ("task_001",), ("task_002",)]
    assert (document.tasks[1].timeout_seconds, document.tasks[1].retry_count) == (60, 2)


def test_every_other_name_of_a_field_is_known():
    document = parse_alt(
        json.dumps(
            {
                "task_id": 7,
                "timestamp": "2025-01-01",
                "original_command": "do it",
                "segments": [{"segment_id": 1, "task_type": "search", "content": "find"}],
            }
        )
    )

    assert (document.id, document.created_at, document.command) == ("7", "2025-01-01", "do it")
    task = document.tasks[0]
    assert (task.id, task.type, task.description) == ("1", "search", "find")


def test_what_a_file_leaves_out_has_a_default():
    document = parse_alt(alt({"id": "a"}))

    assert (document.version, document.mode, document.persona) == ("1.0", "normal", "technical_expert")
    assert (document.title, document.description, document.command) == ("", "", "")
    assert (document.language, document.chaos_level, document.priority, document.tags) == (None, None, None, ())
    task = document.tasks[0]
    assert (task.type, task.description, task.parameters, task.dependencies) == ("execute", "", {}, ())
    assert (task.timeout_seconds, task.retry_count, task.priority, task.tags) == (None, 0, None, ())


def test_null_is_the_same_as_absent():
    bare = parse_alt(alt({"id": "a"}))
    nulls = parse_alt(
        alt({"id": "a", "dependencies": None, "parameters": None, "tags": None}, mode=None, segments=None)
    )

    assert nulls == bare


def test_unknown_keys_are_ignored_and_cannot_name_the_dialect():
    document = parse_alt(alt({"id": "a", "service_target": "x"}, dialect="segments", novelty=1))

    assert document == parse_alt(alt({"id": "a"}))


def test_a_list_of_parameters_becomes_a_mapping():
    parameters = [{"name": "path", "value": "a/b", "type": "string"}, {"name": "depth"}]

    assert parse_alt(segments({"id": "a", "parameters": parameters})).tasks[0].parameters == {
        "path": "a/b",
        "depth": None,
    }


def test_a_description_falls_back_to_the_content_parameter():
    assert parse_alt(segments({"id": "a", "parameters": {"content": "sort"}})).tasks[0].description == "sort"


@pytest.mark.parametrize("parameters", [[{"value": 1}], ["x"], [{"name": ""}], "x", 3])
def test_parameters_without_names_are_refused(parameters):
    error = refusal(parse_alt, segments({"id": "a", "parameters": parameters}))

    assert error.code == FormatErrorCode.ALT_INVALID
    assert str(error).startswith("segments[0].parameters: ")


def test_two_parameters_of_one_name_are_refused():
    twice = [{"name": "x", "value": 1}, {"name": "x", "value": 2}]

    assert "same name" in str(refusal(parse_alt, segments({"id": "a", "parameters": twice})))


def test_number_ids_are_text_and_match_their_dependencies():
    tasks = parse_alt(alt({"id": 1}, {"id": "2", "dependencies": [1, "1"]})).tasks

    assert [(task.id, task.dependencies) for task in tasks] == [("1", ()), ("2", ("1",))]


@pytest.mark.parametrize("bad_id", ["", "  ", None, True, [], {}, "x" * 201])
def test_an_id_must_be_text_of_some_and_not_too_much_length(bad_id):
    error = refusal(parse_alt, alt({"id": "a"}, {"id": bad_id}))

    assert error.code == FormatErrorCode.ALT_INVALID
    assert str(error).startswith("tasks[1].id: ")


def test_an_id_of_the_longest_length_is_taken():
    assert parse_alt(alt({"id": "x" * 200})).tasks[0].id == "x" * 200


def test_a_file_without_id_is_refused():
    assert str(refusal(parse_alt, '{"tasks": [{"id": "a"}]}')) == "id: is required"


@pytest.mark.parametrize("mode", ["Normal", "DREAM", "explore", "Chaos"])
def test_a_mode_is_taken_in_any_case(mode):
    assert parse_alt(alt(mode=mode)).mode == mode.lower()


def test_an_unknown_mode_is_refused():
    assert str(refusal(parse_alt, alt(mode="turbo"))).startswith("mode: ")


def test_a_chaos_level_counts_in_chaos_mode_only():
    assert parse_alt(alt(mode="chaos", chaos_level=10)).chaos_level == 10
    assert parse_alt(alt(mode="dream", chaos_level=10)).chaos_level is None


@pytest.mark.parametrize("level", [0, 11, 1.5, True, "5"])
def test_a_chaos_level_is_a_whole_number_from_1_to_10(level):
    assert str(refusal(parse_alt, alt(mode="chaos", chaos_level=level))).startswith("chaos_level: ")


@pytest.mark.parametrize("field", ["timeout_seconds", "retry_count"])
@pytest.mark.parametrize("value", [-1, 2**31, True, "3", [], 1.5])
def test_a_count_is_a_whole_number_of_usual_size(field, value):
    assert str(refusal(parse_alt, alt({"id": "a", field: value}))).startswith(f"tasks[0].{field}: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"id": 1}', "neither `segments` nor `tasks`"),
        ('{"id": 1, "tasks": [{"id": 1}], "segments": [{"id": 1}]}', "both `segments` and `tasks`"),
        ('{"id": 1, "tasks": []}', "tasks: must not be empty"),
        ('{"id": 1, "tasks": {}}', "tasks: must be a list"),
        ('{"id": 1, "tasks": [3]}', "tasks[0]: must be a mapping"),
        ('{"id": 1, "tasks": [{"id": 1}], "metadata": []}', "metadata: must be a mapping"),
        ('{"id": 1, "tasks": [{"id": 1, "tags": "x"}]}', "tasks[0].tags: must be a list"),
    ],
)
def test_a_file_of_another_shape_is_refused(content, words):
    error = refusal(parse_alt, content)

    assert error.code == FormatErrorCode.ALT_INVALID
    assert words in str(error)


def test_a_thousand_tasks_are_taken_and_one_more_is_not():
    tasks = [{"id": number} for number in range(1001)]

    assert len(parse_alt(alt(*tasks[:1000])).tasks) == 1000
    assert str(refusal(parse_alt, alt(*tasks))).startswith("tasks: ")


def test_a_repeated_task_id_is_refused_and_named():
    error = refusal(parse_alt, segments({"id": "a"}, {"id": 1}, {"id": "1"}))

    assert error.code == FormatErrorCode.ALT_DUPLICATE_TASK
    assert str(error) == "segments[2].id: an earlier task has the id '1' already"


def test_an_unknown_dependency_is_refused_and_named():
    error = refusal(parse_alt, alt({"id": "a", "dependencies": ["ghost"]}))

    assert error.code == FormatErrorCode.ALT_UNKNOWN_DEPENDENCY
    assert str(error) == "tasks[0].dependencies: there is no task 'ghost'"


def test_a_cycle_is_refused_and_named():
    error = refusal(
        parse_alt,
        alt(
            {"id": "free"},
            {"id": "a", "dependencies": ["free", "b"]},
            {"id": "b", "dependencies": ["c"]},
            {"id": "c", "dependencies": ["a"]},
        ),
    )

    assert error.code == FormatErrorCode.ALT_CYCLE
    steps = str(error).partition("circle: ")[2].split(" -> ")
    assert steps[0] == steps[-1]
    assert list(pairwise(steps)) in [
        [(first, second), (second, third), (third, first)]
        for first, second, third in (("'a'", "'b'", "'c'"), ("'b'", "'c'", "'a'"), ("'c'", "'a'", "'b'"))
    ]


def test_a_task_that_waits_for_itself_is_a_cycle():
    error = refusal(parse_alt, alt({"id": "a", "dependencies": ["a"]}))

    assert error.code == FormatErrorCode.ALT_CYCLE
    assert str(error).endswith("'a' -> 'a'")


def test_a_cycle_of_a_thousand_tasks_is_told_in_short():
    names = [f"{number}-{'x' * 190}" for number in range(1000)]
    following = [*names[1:], names[0]]
    ring = [{"id": name, "dependencies": [other]} for name, other in zip(names, following, strict=True)]

    error = refusal(parse_alt, alt(*ring))

    assert error.code == FormatErrorCode.ALT_CYCLE
    assert "…" in str(error)
    assert len(str(error)) <= 300


@pytest.mark.parametrize("name", [*SEGMENTS_SAMPLES, TASKS_SAMPLE])
def test_the_runners_file_holds_the_same_tasks(name):
    document = parse_alt(sample(name))
    for_runner = document.to_tasks_json()

    again = parse_alt(for_runner)
    assert again.dialect == "tasks"
    assert again.tasks == document.tasks
    assert (again.id, again.created_at, again.mode) == (document.id, document.created_at, document.mode)
    assert again.to_tasks_json() == for_runner == parse_alt(sample(name)).to_tasks_json()


def test_the_runners_file_has_the_runners_fields_and_no_nulls():
    content = segments({"id": 1, "content": "göster", "timeout_seconds": 5}, timestamp="2025-01-01", mode="Chaos")

    assert parse_alt(content).to_tasks_json() == (
        '{"id": "alt-1", "version": "1.0", "created_at": "2025-01-01", "title": "", "description": "", '
        '"mode": "chaos", "persona": "technical_expert", "tasks": [{"id": "1", "description": "göster", '
        '"dependencies": [], "parameters": {}, "timeout_seconds": 5, "retry_count": 0, "status": "pending", '
        '"tags": []}], "metadata": {}, "tags": []}'
    )


def test_type_and_metadata_ride_along_to_the_runner_where_they_say_something():
    (task,) = json.loads(parse_alt(alt({"id": 1, "type": "search", "metadata": {"k": 1}})).to_tasks_json())["tasks"]

    assert (task["type"], task["metadata"]) == ("search", {"k": 1})


@pytest.mark.parametrize("field", ["id", "tasks"])
def test_a_document_cannot_be_changed(field):
    document = parse_alt(alt())

    with pytest.raises(ValueError, match="frozen"):
        setattr(document, field, "other")


def test_a_thousand_tasks_in_yaml_are_read_well_within_two_seconds():
    parameters = [{"name": "content", "value": "x", "type": "string", "required": True, "description": "d"}]
    chain = [
        {"id": f"t{n}", "parameters": parameters, "dependencies": [f"t{n - 1}"] if n else [], "metadata": {"c": 0.5}}
        for n in range(1000)
    ]
    content = yaml.dump({"id": "x", "segments": json.loads(json.dumps(chain))}, Dumper=yaml.CSafeDumper)

    started = time.process_time()
    parse_alt(content)
    assert time.process_time() - started < 2  # about 0.15 s; the rest is room for a busy machine
