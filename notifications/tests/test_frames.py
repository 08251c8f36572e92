import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.frames import (
    MAX_FRAME_CHARACTERS,
    MAX_SEQ,
    FrameError,
    error_text,
    frame_text,
    read_after,
    read_frame,
    read_rooms,
    read_token,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def _frame(**members):
    return read_frame(json.dumps({"type": "x", "id": 7, **members}))


def test_a_frame_has_a_type_and_perhaps_an_id_and_a_payload():
    frame = read_frame('{"type": "ping", "id": "a", "payload": {"b": 1}, "later": true}')
    assert (frame.type, frame.id, frame.payload) == ("ping", "a", {"b": 1})
    frame = read_frame('{"type": "ping", "payload": null}')
    assert (frame.type, frame.id, frame.payload) == ("ping", None, {})


@pytest.mark.parametrize(
    "text", [None, "", "{", "hello", "[]", "1", "null", '"ping"', "[" * 60_000, '{"id": ' + "9" * 5000 + "}", "\0"]
)
def test_what_is_no_json_object_is_malformed(text):
    with pytest.raises(FrameError) as caught:
        read_frame(text)
    assert caught.value.code == "malformed_frame"


def test_a_long_frame_is_not_even_parsed():
    with pytest.raises(FrameError) as caught:
        read_frame("[" * (MAX_FRAME_CHARACTERS + 1))
    assert caught.value.code == "frame_too_large"


@pytest.mark.parametrize(
    ("members", "field", "has_id"),
    [
        ({"id": True}, "id", False),
        ({"id": 1.5}, "id", False),
        ({"id": []}, "id", False),
        ({"id": "x" * 101}, "id", False),
        ({"type": None}, "type", True),
        ({"type": 1}, "type", True),
        ({"type": "x" * 101}, "type", True),
        ({"payload": []}, "payload", True),
        ({"payload": "x"}, "payload", True),
        ({"payload": False}, "payload", True),
    ],
)
def test_a_wrong_member_is_named(members, field, has_id):
    with pytest.raises(FrameError) as caught:
        _frame(**members)
    assert caught.value.code == "invalid_frame"
    assert caught.value.detail.startswith(f"{field}: ")
    assert caught.value.frame_id == (7 if has_id else None)


@pytest.mark.parametrize("rooms", [None, "command:1", {}, [1], [None], [["a"]], ["x" * 101], ["a"] * 101])
def test_rooms_are_a_list_of_names(rooms):
    with pytest.raises(FrameError, match=r"^payload\.rooms: "):
        read_rooms(_frame(payload={"rooms": rooms}))


def test_a_room_named_twice_counts_once():
    assert read_rooms(_frame(payload={"rooms": ["b", "a", "b"]})) == ["b", "a"]


@pytest.mark.parametrize(
    "after", [1, [], "", {"a": None}, {"a": "1"}, {"a": 1.0}, {"a": True}, {"a": -1}, {"a": 2**31}]
)
def test_after_maps_rooms_to_numbers(after):
    with pytest.raises(FrameError, match=r"^payload\.after: "):
        read_after(_frame(payload={"after": after}))


@pytest.mark.parametrize("after", [{}, {"a": 0, "b": MAX_SEQ}])
def test_after_that_is_good_is_taken_as_it_is(after):
    assert read_after(_frame(payload={"after": after})) == after
    assert read_after(_frame(payload={"after": None})) == {}


@pytest.mark.parametrize("token", [None, "", 1, ["a"]])
def test_a_token_is_text(token):
    with pytest.raises(FrameError, match=r"^payload\.token: "):
        read_token(_frame(payload={"token": token}))


@settings(max_examples=50, deadline=None)
@given(anything)
def test_any_json_is_read_or_refused_and_its_answer_can_be_sent(value):
    for frame in (value, {"type": value}, {"type": "x", "id": value}, {"type": "x", "payload": value}):
        try:
            read = read_frame(json.dumps(frame))
            for reader in (read_rooms, read_after, read_token):
                reader(read)
        except FrameError as error:
            answer = error_text(error)
        else:
            answer = frame_text("x", {"rooms": read_rooms(read)}, read.id)
        answer.encode()
