import pickle

import pytest

from files.formats import MAX_FILE_BYTES, FormatError, FormatErrorCode, parse_alt, parse_atlas, parse_last
from files.formats.syntax import MAX_YAML_EVENTS
from files.tests.formats.samples import alt, atlas, refusal

EVERY_PARSER = pytest.mark.parametrize("parse", [parse_alt, parse_last, parse_atlas])


def with_value(text: str) -> str:
    """An `.alt` in JSON text with `text` as it stands for a value deep inside."""
    return alt({"id": "a", "parameters": {"x": ["VALUE"]}}).replace('"VALUE"', text)


@EVERY_PARSER
def test_a_file_is_measured_in_utf_8(parse):
    assert refusal(parse, "ş" * (MAX_FILE_BYTES // 2 + 1)).code == FormatErrorCode.FILE_TOO_LARGE


def test_a_file_of_just_the_largest_size_is_read():
    padding = "ş" * ((MAX_FILE_BYTES - len(atlas(content=""))) // 2)

    assert parse_atlas(atlas(content="").replace('""', f'"{padding}"')).id


@EVERY_PARSER
@pytest.mark.parametrize("content", ["\0", "\ud800", '{"id": "\udfff"}'])
def test_text_that_no_database_takes_is_refused(parse, content):
    assert refusal(parse, content).code == FormatErrorCode.FILE_UNSAFE_TEXT


@EVERY_PARSER
@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800", r"\udc00\ud800"])
def test_such_text_is_refused_behind_an_escape_too(parse, escape):
    for content in (f'{{"k": [{{"v": "{escape}"}}]}}', f'{{"k": [{{"{escape}": 1}}]}}'):
        error = refusal(parse, content)
        assert error.code == FormatErrorCode.FILE_UNSAFE_TEXT
        assert str(error).startswith("k[0]")
        assert str(error).isprintable()


def test_such_text_is_refused_behind_a_yaml_escape():
    assert refusal(parse_alt, r'k: "\0"').code == FormatErrorCode.FILE_UNSAFE_TEXT


def test_a_whole_surrogate_pair_is_a_character():
    assert parse_atlas(r'{"id": "\ud83d\ude00"}').id == "😀"


@EVERY_PARSER
@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 400, "9" * 5000, "-" + "9" * 5000]
)
def test_a_number_beyond_reason_is_refused(parse, number):
    assert refusal(parse, f'{{"k": [{number}]}}').code == FormatErrorCode.FILE_UNSAFE_NUMBER


@pytest.mark.parametrize("number", [".nan", ".inf", "-.INF", "1.0e+400", "9" * 400, "9" * 5000])
def test_a_number_beyond_reason_is_refused_in_yaml(number):
    assert refusal(parse_alt, f"k: {number}").code == FormatErrorCode.FILE_UNSAFE_NUMBER


@EVERY_PARSER
@pytest.mark.parametrize("content", ['{"k":' * 65 + "1" + "}" * 65, '{"k":' * 500_000])
def test_deep_nesting_is_refused(parse, content):
    assert refusal(parse, content).code == FormatErrorCode.FILE_TOO_COMPLEX


@pytest.mark.parametrize("content", ["[" * 100_000, "- " * 100_000, "k: " + "[" * 64 + "]" * 64])
def test_deep_nesting_is_refused_in_yaml(content):
    assert refusal(parse_alt, content).code == FormatErrorCode.FILE_TOO_COMPLEX


def test_nesting_of_64_levels_is_taken_and_one_more_is_not():
    assert parse_atlas('{"id": 1, "content": ' + "[" * 63 + "]" * 63 + "}").id == "1"
    one_more = '{"id": 1, "content": ' + "[" * 64 + "]" * 64 + "}"
    assert refusal(parse_atlas, one_more).code == FormatErrorCode.FILE_TOO_COMPLEX


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("k: &a 1", "anchors and aliases"),
        ("k: *a", "anchors and aliases"),
        ("&a k: 1", "anchors and aliases"),
        ("k: !!python/object/apply:os.system [id]", "tags"),
        ("k: !custom 1", "tags"),
        ("!!map {k: 1}", "tags"),
        ("k: !!binary aGk=", "tags"),
        ("k: 1\nk: 2", "'k' stands twice"),
        ("k: {1: a, '1': b}", "'1' stands twice"),
        ('{"k": 1, "k": 2}', "'k' stands twice"),
        ("{k: &a 1}", "anchors and aliases"),
        ("? [k]\n: 1", "a key must be text"),
        ("k: 1\n---\nk: 2", "several YAML documents"),
        ("k: [", "not YAML"),
        ("k: \x07", "not YAML"),
        ('{"k": 1', "not JSON"),
        ("", "mapping"),
        ("[1]", "mapping"),
        ("just words", "mapping"),
    ],
)
def test_a_text_that_holds_no_plain_mapping_is_refused(content, words):
    error = refusal(parse_alt, content)

    assert error.code == FormatErrorCode.ALT_NOT_PARSABLE
    assert words in str(error)


def test_a_syntax_error_names_line_and_column():
    assert "(line 2, column 1)" in str(refusal(parse_alt, '{"id": 1,\n'))
    assert "(line 2, column 5)" in str(refusal(parse_alt, "a: 1\nb: c: d"))


def test_too_many_values_in_yaml_are_refused():
    error = refusal(parse_alt, "k: [" + "0," * MAX_YAML_EVENTS + "]")

    assert error.code == FormatErrorCode.FILE_TOO_COMPLEX


@pytest.mark.parametrize(
    "text", ["2025-04-28", "2025-04-28T00:28:21Z", "yes", "off", "12:30", "007", "12e4567", "1_000", "+5", "="]
)
def test_what_json_has_no_word_for_stays_text_in_yaml(text):
    document = parse_alt(f"id: 1\ntasks: [{{id: 1, parameters: {{v: {text}}}}}]")

    assert document.tasks[0].parameters == {"v": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0.5", 0.5),
        ("1.0e-05", 1e-05),
        ("true", True),
        ("False", False),
        ("~", None),
        ("'5'", "5"),
    ],
)
def test_what_json_has_a_word_for_is_that_in_yaml(text, value):
    document = parse_alt(f"id: 1\ntasks: [{{id: 1, parameters: {{v: {text}}}}}]")

    assert document.tasks[0].parameters == {"v": value}
    assert type(document.tasks[0].parameters["v"]) is type(value)


def test_a_yaml_mapping_in_flow_style_may_start_like_json():
    assert parse_alt("{id: x, tasks: [{id: a}]}").id == "x"


def test_a_byte_order_mark_is_no_content():
    assert parse_atlas("\ufeff" + atlas()) == parse_atlas(atlas())
    assert parse_alt("\ufeffid: x\ntasks: [{id: a}]").id == "x"


def test_json_values_inside_are_kept():
    assert parse_alt(with_value('{"n": null, "f": 1.5}')).tasks[0].parameters == {"x": [{"n": None, "f": 1.5}]}


def test_a_message_is_short_printable_and_does_not_echo_the_file():
    error = refusal(parse_atlas, '{"k\\n' + "x" * 100_000 + '": "\\u0000"}')

    assert len(str(error)) <= 300
    assert str(error).isprintable()


def test_an_error_survives_the_way_between_processes():
    error = FormatError(FormatErrorCode.ALT_CYCLE, "a\nb")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert (again.code, str(again)) == (FormatErrorCode.ALT_CYCLE, "a?b")
