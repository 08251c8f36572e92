"""What is no good body of a command is refused by the name of its field, and changes nothing."""

import json

import pytest

from commands.models import Command
from commands.tests.calls import URL, fields
from gateway.tests.expect import fields_of

pytestmark = pytest.mark.django_db


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
        ({"text": "x", "deadline": "9999-12-31T23:59:59Z"}, "deadline"),
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


@pytest.mark.parametrize("deadline", ["9998-12-31T23:59:59Z", "2099-06-01t12:00:00.123456789+03:00"])
def test_a_deadline_may_be_far_away(alice, api, deadline):
    answer = api(alice).post(URL, {"text": "x", "deadline": deadline}, format="json")
    assert answer.status_code == 201
    assert answer.json()["deadline"].endswith("Z")


def test_another_media_type_is_415(alice, api):
    answer = api(alice).post(URL, "text=echo", content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
