import json

import pytest

from files.formats import FormatErrorCode, parse_atlas, parse_last
from files.tests.formats.samples import atlas, last, refusal


def test_what_the_gateway_uses_of_a_last_file_is_read_and_the_rest_may_look_as_it_likes():
    rest = {"execution_id": 5, "title": {}, "tags": "a", "metadata": [], "artifacts": "none", "execution_time_ms": -1}

    document = parse_last(last(status="failure", success_rate=0.5, summary="half done", **rest)).model_dump()

    assert document == {
        "id": "last-1",
        "status": "failure",
        "success_rate": 0.5,
        "summary": "half done",
        "task_results": {},
    }


def test_a_last_file_needs_no_more_than_the_four_required_fields():
    document = parse_last(last())

    assert (document.id, document.status, document.success_rate, document.task_results) == (
        "last-1",
        "success",
        1.0,
        {},
    )


@pytest.mark.parametrize("field", ["id", "status", "success_rate", "task_results"])
def test_a_last_file_without_a_required_field_is_refused(field):
    error = refusal(parse_last, last(**{field: None}))

    assert error.code == FormatErrorCode.LAST_INVALID
    assert str(error) == f"{field}: is required"


@pytest.mark.parametrize("status", ["partialsuccess", "PartialSuccess", "partial_success", "PARTIAL-SUCCESS"])
def test_partial_success_is_known_in_all_its_spellings(status):
    assert parse_last(last(status=status)).status == "partialsuccess"


@pytest.mark.parametrize("status", ["done", "", 1, [], True])
def test_another_status_is_refused(status):
    assert str(refusal(parse_last, last(status=status))).startswith("status: ")


@pytest.mark.parametrize("rate", [0, 1, 0.25])
def test_a_success_rate_is_taken(rate):
    assert parse_last(last(success_rate=rate)).success_rate == rate


@pytest.mark.parametrize("rate", [-0.01, 1.01, 87, "0.5", "nan", True, []])
def test_a_success_rate_outside_0_to_1_is_refused(rate):
    assert str(refusal(parse_last, last(success_rate=rate))).startswith("success_rate: ")


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_a_success_rate_that_is_no_number_is_refused(rate):
    assert refusal(parse_last, last(success_rate=rate)).code == FormatErrorCode.FILE_UNSAFE_NUMBER


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("as is", "as is"),
        (None, ""),
        (5, "5"),
        (0.5, "0.5"),
        (False, "false"),
        ({"name": "ş"}, '{"name": "ş"}'),
        ([1, None], "[1, null]"),
    ],
)
def test_an_output_that_is_not_text_is_written_out(output, text):
    assert parse_last(last(task_results={"a": {"output": output}})).task_results["a"].output == text


def test_a_task_result_keeps_its_status_and_error():
    result = parse_last(last(task_results={"a": {"status": "Failed", "error": {"code": 3}}})).task_results["a"]

    assert (result.status, result.error) == ("Failed", '{"code": 3}')


def test_a_task_result_that_says_nothing_is_of_unknown_status():
    result = parse_last(last(task_results={"a": {}})).task_results["a"]

    assert (result.status, result.output, result.error, result.duration_ms) == ("unknown", "", None, None)


@pytest.mark.parametrize("name", ["duration_ms", "execution_time_ms", "duration"])
@pytest.mark.parametrize(("value", "milliseconds"), [(12, 12), (12.7, 13), (None, None)])
def test_a_duration_is_known_by_its_three_names(name, value, milliseconds):
    assert parse_last(last(task_results={"a": {name: value}})).task_results["a"].duration_ms == milliseconds


@pytest.mark.parametrize("duration", [-1, "1s", True, 1e300])
def test_a_duration_that_makes_no_sense_is_none(duration):
    assert parse_last(last(task_results={"a": {"duration_ms": duration}})).task_results["a"].duration_ms is None


@pytest.mark.parametrize("results", [[], "x", {"a": 3}, {"": {}}, {"x" * 201: {}}])
def test_task_results_of_another_shape_are_refused(results):
    assert str(refusal(parse_last, last(task_results=results))).startswith("task_results")


@pytest.mark.parametrize(("parse", "content"), [(parse_last, last()), (parse_atlas, atlas())])
def test_unknown_keys_are_ignored(parse, content):
    assert parse(json.dumps({**json.loads(content), "novelty": [1]})) == parse(content)


@pytest.mark.parametrize(("parse", "code"), [(parse_last, "last_not_parsable"), (parse_atlas, "atlas_not_parsable")])
@pytest.mark.parametrize("content", ["", "id: yaml", "[]", "null", '"text"', '{"id": 1', '{"id": 1, "id": 2}'])
def test_only_a_json_mapping_is_taken(parse, code, content):
    assert refusal(parse, content).code == code


def test_an_atlas_file_needs_no_more_than_an_id():
    assert parse_atlas('{"id": 5, "content": [1], "tags": "x", "processing_time_ms": "5"}').id == "5"


def test_an_atlas_file_without_an_id_is_refused():
    error = refusal(parse_atlas, atlas(id=None))

    assert error.code == FormatErrorCode.ATLAS_INVALID
    assert str(error) == "id: is required"
