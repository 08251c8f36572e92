"""Whatever is taken for plainly good, the serializer takes too, and makes the same of it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from commands.api.plain_body import plain_values
from commands.api.serializers import CommandInput
from commands.models import Mode, Priority
from gateway.api.parsers import read_json

texts = st.text(max_size=60) | st.sampled_from(["", " ", "\0", "\ud800", "x" * 51, "x" * 10_001])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(texts, scalars, max_size=4)
fields = {
    "text": texts,
    "mode": st.sampled_from([*Mode.values, "wild"]),
    "persona": st.from_regex(r"\A[a-z0-9_]{0,70}\Z"),
    "priority": st.sampled_from([*Priority.values, "top"]),
    "parameters": objects,
    "metadata": objects,
    "tags": st.lists(texts, max_size=22),
    "chaos_level": st.integers(0, 11),
    "deadline": st.sampled_from(["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "soon"]),
    "other": anything,
}
good_or_not = st.fixed_dictionaries({}, optional=fields)
odd = st.fixed_dictionaries({"text": texts}, optional=dict.fromkeys(fields.keys() - {"text"}, anything))
bodies = (good_or_not | odd | anything).map(lambda value: json.dumps(value).encode())


@given(bodies | st.binary(max_size=40))
def test_it_is_what_the_serializer_makes_of_it(body):
    plain = plain_values(body)
    if plain is None:
        return
    serializer = CommandInput(data=read_json(body))
    assert serializer.is_valid(), serializer.errors
    assert serializer.validated_data == plain
    assert json.dumps(serializer.validated_data) == json.dumps({**serializer.validated_data, **plain})  # types too


@given(st.fixed_dictionaries({"text": st.text("abc ğ", min_size=1).filter(str.strip)}))
def test_the_ordinary_is_plain(body):
    assert plain_values(json.dumps(body).encode()) is not None
    assert plain_values(json.dumps(body, ensure_ascii=False).encode()) is not None
