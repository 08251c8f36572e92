from __future__ import annotations

import re

import pytest

from integrations.sandbox.actions import Action, ActionError, find_action, perform, sleep_seconds


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("echo Merhaba", Action("echo", "Merhaba")),
        ("  ECHO: a b ", Action("echo", "a b")),
        ("Yaz selam", Action("echo", "selam")),
        ("hesapla 1+1", Action("calc", "1+1")),
        ("fail", Action("fail", "")),
        ("date", Action("date", "")),
        ("date the letter", None),
        ("echo-server start", None),
        ("rm -rf /", None),
        ("", None),
    ],
)
def test_the_first_word_names_the_action(text: str, action: Action | None) -> None:
    assert find_action(text) == action


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ('echo "a and b"', "a and b"),
        ('echo "a" and "b"', '"a" and "b"'),
        ("upper abc", "ABC"),
        ("lower ABC", "abc"),
        ("reverse abc", "cba"),
        ("count a bc", "2 words, 4 characters"),
        ("calc 6*7", "42"),
    ],
)
def test_outputs(text: str, output: str) -> None:
    action = find_action(text)
    assert action is not None
    assert perform(action) == output


def test_date_is_rfc_3339() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", perform(Action("date", "")))


@pytest.mark.parametrize(("argument", "seconds"), [("2", 2), ("0,5 saniye", 0.5), ("1.5s", 1.5), ("99999", 3600)])
def test_sleep_reads_seconds(argument: str, seconds: float) -> None:
    assert sleep_seconds(argument) == seconds


@pytest.mark.parametrize("argument", ["", "-1", "soon", "1e9", "nan", "inf"])
def test_sleep_refuses_what_is_no_duration(argument: str) -> None:
    with pytest.raises(ActionError, match="sleep needs"):
        sleep_seconds(argument)


@pytest.mark.parametrize(("text", "reason"), [("fail no luck", "no luck"), ("fail", "as asked"), ("calc 1/0", "zero")])
def test_failures_give_their_reason(text: str, reason: str) -> None:
    action = find_action(text)
    assert action is not None
    with pytest.raises(ActionError, match=reason):
        perform(action)
