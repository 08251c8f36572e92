"""Storing: the same bytes once, whatever dies in between, under a name that is safe."""

import hashlib

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from hypothesis import given
from hypothesis import strategies as st

from files.models import Kind, StoredFile
from files.selectors import file_bytes, file_text
from files.services import file_store, safe_name
from gateway.ids import new_id


@pytest.fixture
def folder():
    return new_id().hex


def store(folder, text="tasks: dünya\n", kind=Kind.ALT):
    return file_store(owner_id=new_id(), kind=kind, name=f"a.{kind}", text=text, folder=folder)


def objects_in(folder, kind=Kind.ALT):
    return default_storage.listdir(f"{kind}/{folder}")[1]


def test_what_is_stored_is_described(folder):
    file = store(folder)
    content = "tasks: dünya\n".encode()
    assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (file_bytes(file), file_text(file)) == (content, "tasks: dünya\n")


def test_the_row_is_left_to_the_caller(folder, db):
    store(folder)
    assert not StoredFile.objects.exists()


def test_the_same_bytes_twice_are_one_object(folder):
    """As when the process died between the storage and the row, and the work is done again."""
    assert store(folder).content.name == store(folder).content.name
    assert len(objects_in(folder)) == 1


def test_a_whole_copy_is_left_alone(folder, monkeypatch):
    store(folder)
    monkeypatch.setattr(default_storage, "save", None)
    store(folder)


def test_other_bytes_another_folder_and_another_kind_have_keys_of_their_own(folder):
    keys = {
        store(folder).content.name,
        store(folder, text="other").content.name,
        store(new_id().hex).content.name,
        store(folder, kind=Kind.LAST).content.name,
    }
    assert len(keys) == 4


@pytest.mark.parametrize("left_over", [b"", b"tasks", b"x" * 1000])
def test_a_copy_of_another_size_is_overwritten(folder, left_over):
    whole = store(folder)
    default_storage.delete(whole.content.name)
    default_storage.save(whole.content.name, ContentFile(left_over))
    again = store(folder)
    assert again.content.name == whole.content.name
    assert file_text(again) == "tasks: dünya\n"
    assert len(objects_in(folder)) == 1


def test_a_storage_that_fails_leaves_nothing_that_looks_stored(folder, monkeypatch):
    def fail(*_args):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(default_storage, "save", fail)
        with pytest.raises(OSError, match="disk"):
            store(folder)
    assert file_text(store(folder)) == "tasks: dünya\n"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("tasks.alt", "tasks.alt"),
        ("görev listesi.alt", "görev_listesi.alt"),
        ("../../etc/passwd", "passwd.alt"),
        ("..\\..\\boot.ini", "boot.ini.alt"),
        ("/absolute/path.alt", "path.alt"),
        ("a\0b.alt", "a_b.alt"),
        ("a\r\nSet-Cookie: x", "a_Set-Cookie_x.alt"),
        ('a"; rm -rf "b', "a_rm_-rf_b.alt"),
        ("evil.exe", "evil.exe.alt"),
        ("", "file.alt"),
        (".", "file.alt"),
        ("..", "file.alt"),
        ("...", "file.alt"),
        (".alt", "file.alt"),
        ("/", "file.alt"),
        (".htaccess", "htaccess.alt"),
        ("last_1.json", "last_1.alt"),
        ("🔑", "file.alt"),
        ("\ud800", "file.alt"),
        ("a\u202egpj.alt", "a_gpj.alt"),
        ("x" * 10_000, "x" * 200 + ".alt"),
        ("x" * 199 + "._y", "x" * 199 + ".alt"),
        ("ğ" * 10_000 + ".alt", "ğ" * 200 + ".alt"),
    ],
    ids=lambda name: repr(name)[:30],
)
def test_a_name_is_made_safe(name, safe):
    assert safe_name(name, Kind.ALT) == safe


@given(st.text(st.characters()), st.sampled_from(Kind))
def test_any_name_is_made_safe_and_a_safe_one_stays(name, kind):
    safe = safe_name(name, kind)
    assert safe.endswith(f".{kind}")
    assert len(safe) <= 255
    assert not safe.startswith(".")
    assert "/" not in safe
    assert safe.encode().decode().isprintable()
    assert safe_name(safe, kind) == safe
