"""What the owner of a file gets, and that nobody else gets anything."""

import hashlib

import pytest
from django.core.files.storage import default_storage

from files.models import StoredFile
from files.tests.rows import stored_file
from gateway.api.errors import ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import problem_of

pytestmark = pytest.mark.django_db

TEXT = "task: Merhaba dünya\r\n\n\ttrailing blanks  \n"


@pytest.fixture
def file(alice):
    return stored_file(alice, text=TEXT)


def path_of(file_id, part=""):
    return f"/api/v2/files/{file_id}{part}"


def test_the_owner_sees_what_is_known_of_a_file(api, alice, file):
    body = api(alice).get(path_of(file.id)).json()
    assert body == {
        "id": str(file.id),
        "kind": "alt",
        "name": "a.alt",
        "size": len(TEXT.encode()),
        "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
        "url": path_of(file.id, "/content"),
        "created_at": body["created_at"],
    }


@pytest.mark.security
@pytest.mark.security_access
@pytest.mark.parametrize("part", ["", "/content"])
def test_nobody_else_sees_it(api, bob, admin, file, part):
    for person in (bob, admin):
        problem_of(api(person).get(path_of(file.id, part)), ErrorCode.NOT_FOUND)
    problem_of(api(None).get(path_of(file.id, part)), ErrorCode.NOT_AUTHENTICATED)


@pytest.mark.parametrize("part", ["", "/content"])
@pytest.mark.parametrize("file_id", [new_id(), "x", "..", "%00", "0"])
def test_a_file_that_is_not_there_is_not_found(api, alice, file_id, part):
    problem_of(api(alice).get(path_of(file_id, part)), ErrorCode.NOT_FOUND)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("part", ["", "/content"])
def test_it_can_only_be_read(api, alice, file, method, part):
    problem_of(api(alice).generic(method, path_of(file.id, part)), ErrorCode.METHOD_NOT_ALLOWED)
    assert StoredFile.objects.filter(id=file.id).exists()


@pytest.mark.parametrize("accept", ["*/*", "application/octet-stream", "text/html", "application/json", "x"])
def test_the_content_is_byte_for_byte_what_was_stored(api, alice, file, accept):
    answer = api(alice).get(path_of(file.id, "/content"), HTTP_ACCEPT=accept)
    assert answer.content == TEXT.encode()
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Length"] == str(file.size)
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("text", ["", "x", "\ufeffa\r\n", "🔑" * 1000])
def test_content_of_any_shape_survives(api, alice, text):
    file = stored_file(alice, text=text)
    assert api(alice).get(path_of(file.id, "/content")).content == text.encode()


def test_content_that_one_has_is_not_sent_again(api, alice, file):
    client = api(alice)
    tag = client.get(path_of(file.id, "/content"))["ETag"]
    assert tag == f'"{file.sha256}"'
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = client.get(path_of(file.id, "/content"), HTTP_IF_NONE_MATCH=given)
        assert (answer.status_code, answer.content) == (304, b"")
    assert client.get(path_of(file.id, "/content"), HTTP_IF_NONE_MATCH='"x"').status_code == 200


def test_head_tells_the_size_without_the_content(api, alice, file):
    answer = api(alice).head(path_of(file.id, "/content"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer["Content-Length"] == str(file.size)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.alt", 'attachment; filename="a.alt"'),
        ('a"b\\c.alt', 'attachment; filename="a\\"b\\\\c.alt"'),
        ("a; filename=evil.exe.alt", 'attachment; filename="a; filename=evil.exe.alt"'),
        ("görev.alt", "attachment; filename*=utf-8''g%C3%B6rev.alt"),
        ("a\r\nX-Evil: 1.alt", "attachment; filename*=utf-8''a%0D%0AX-Evil%3A%201.alt"),
    ],
)
def test_the_name_in_the_header_cannot_break_out_of_it(api, alice, name, header):
    """Names are made safe before they are stored; the header does not rely on it."""
    file = stored_file(alice)
    StoredFile.objects.filter(id=file.id).update(name=name)
    assert api(alice).get(path_of(file.id, "/content"))["Content-Disposition"] == header


def test_content_that_the_storage_lost_is_unavailable(api, alice, file):
    default_storage.delete(file.content.name)
    answer = api(alice).get(path_of(file.id, "/content"))
    problem = problem_of(answer, ErrorCode.SERVICE_UNAVAILABLE)
    assert file.content.name not in str(problem)
    assert api(alice).get(path_of(file.id)).status_code == 200
