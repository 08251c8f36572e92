"""Every sentence that a person may read is there in every language of the gateway."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import read_mo
from django.conf import settings
from rest_framework.test import APIClient

from accounts.models import User

FOLDER = Path(settings.LOCALE_PATHS[0])
TOOLS = runpy.run_path(str(FOLDER / "messages.py"))
PO_FILES: list[Path] = TOOLS["po_files"]()
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")

each_language = pytest.mark.parametrize("po_file", PO_FILES, ids=lambda po_file: po_file.parent.parent.name)


@pytest.fixture(scope="module")
def source() -> Catalog:
    found: Catalog = TOOLS["extract"]()
    return found


def test_every_language_but_the_one_of_the_source_has_a_catalogue():
    translated = {po_file.parent.parent.name for po_file in PO_FILES}
    assert translated == {code for code, _name in settings.LANGUAGES} - {settings.LANGUAGE_CODE}


def test_strings_are_found_in_python_and_in_templates(source):
    assert "The command failed." in source  # gettext
    assert "The command has not finished yet." in source  # gettext_lazy
    assert "Error catalogue" in source  # {% translate %}


@each_language
def test_every_string_of_the_source_is_translated(po_file, source):
    catalog = TOOLS["read"](po_file)
    missing = [key for key, message in messages(source).items() if not is_translated(catalog.get(*key))]
    assert missing == [], "run `make translations`, then translate what is empty in the .po"


@each_language
def test_nothing_is_kept_that_the_source_no_longer_has(po_file, source):
    catalog = TOOLS["read"](po_file)
    assert messages(catalog).keys() - messages(source).keys() == set(), "run `make translations`"
    assert list(catalog.obsolete) == []


@each_language
def test_what_runs_is_what_was_written(po_file):
    with po_file.with_suffix(".mo").open("rb") as stream:
        compiled = read_mo(stream)
    written = TOOLS["read"](po_file)
    assert texts(compiled) == texts(written), "run `make translations`"


@each_language
def test_placeholders_agree(po_file):
    for message in messages(TOOLS["read"](po_file)).values():
        wanted = placeholders(message.id)
        assert all(found == wanted[-1] for found in placeholders(message.string)), message.id


@each_language
def test_sentences_stay_sentences(po_file):
    for message in messages(TOOLS["read"](po_file)).values():
        for text in forms(message.string):
            assert text == text.strip()
            assert text.endswith(".") == forms(message.id)[0].endswith("."), message.id


def test_a_problem_is_told_in_the_language_that_the_client_asks_for(api: Callable[[User | None], APIClient]):
    client = api(None)
    english = client.get("/api/v2/me")
    turkish = client.get("/api/v2/me", HTTP_ACCEPT_LANGUAGE="tr-TR,tr;q=0.9,en;q=0.5")
    assert english.json()["title"] == "Sign in first: no access token was given."
    assert turkish.json()["title"] == "Önce oturum açın: erişim belirteci gönderilmedi."
    assert turkish.json()["code"] == english.json()["code"] == "not_authenticated"
    assert turkish.headers["Content-Language"] == "tr"


@pytest.mark.django_db
def test_the_error_of_a_field_is_told_in_it_too(alice, api):
    answer = api(alice).get("/api/v2/commands", {"foo": 1}, HTTP_ACCEPT_LANGUAGE="tr")
    assert answer.json()["errors"] == [{"field": "foo", "code": "unknown_field", "detail": "Bilinmeyen alan."}]


def messages(catalog: Catalog) -> dict[tuple[str, str | None], Message]:
    """Return the messages by what identifies them; the header, whose id is empty, is none."""
    return {(forms(message.id)[0], message.context): message for message in catalog if message.id}


def is_translated(message: Message | None) -> bool:
    return message is not None and not message.fuzzy and all(forms(message.string))


def texts(catalog: Catalog) -> dict[tuple[str, str | None], list[str]]:
    return {key: forms(message.string) for key, message in messages(catalog).items()}


def forms(text: str | tuple[str, ...] | list[str] | None) -> list[str]:
    """Return a text as a list, be it none, one, or a singular and its plurals."""
    return [text or ""] if text is None or isinstance(text, str) else list(text)


def placeholders(text: str | tuple[str, ...] | list[str] | None) -> list[list[str]]:
    return [sorted(PLACEHOLDER.findall(form)) for form in forms(text)]
