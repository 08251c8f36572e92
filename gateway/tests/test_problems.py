"""However a request fails, the answer is a problem that tells what is wrong and nothing of the inside."""

import pytest
from django.test import Client

from gateway.api.errors import CATALOGUE, ErrorCode
from gateway.tests.expect import fields_of, problem_of
from gateway.tests.views import FAILURES

pytestmark = [pytest.mark.django_db, pytest.mark.urls("gateway.tests.views")]

COMMANDS, ME = "/api/v2/commands", "/api/v2/me"
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture
def stranger(api):
    client = api(None)
    client.raise_request_exception = False
    return client


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/api/v2/", "/api/v2/nothing", "/api/v2/me/", "/api/v3/me", "/%00", "/ğ"]
)
def test_an_unknown_path(stranger, path):
    problem_of(stranger.get(path), ErrorCode.NOT_FOUND)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW"])
def test_a_method_that_is_not_there(api, alice, method):
    answer = api(alice).generic(method, COMMANDS)
    problem_of(answer, ErrorCode.METHOD_NOT_ALLOWED)
    assert "GET" in answer["Allow"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/api-docs/errors"])
def test_a_method_that_is_not_there_outside_drf(db, method, path):
    answer = Client(enforce_csrf_checks=True).generic(method, path)
    problem_of(answer, ErrorCode.METHOD_NOT_ALLOWED)
    assert answer["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", [ME, COMMANDS, "/api/v2/auth/logout"])
def test_options_name_the_methods(api, alice, path):
    answer = api(alice).options(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "OPTIONS" in answer["Allow"]


def test_a_format_that_is_not_there(api, alice):
    problem_of(api(alice).get(ME, HTTP_ACCEPT="text/html"), ErrorCode.NOT_ACCEPTABLE)


@pytest.mark.parametrize(("method", "path"), [("POST", COMMANDS), ("PATCH", ME), ("POST", f"{COMMANDS}/bulk")])
@pytest.mark.parametrize("body", [b'{"text": "echo"}', b"x", b""])
def test_a_body_without_a_length_is_not_taken_for_an_empty_one(api, alice, method, path, body):
    """A client that sends it in chunks leaves Content-Length out; then there is none, for DRF."""
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    answer = api(alice).generic(method, path, body, content_type="application/json", **chunked)
    problem_of(answer, ErrorCode.MALFORMED_BODY)


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", ""]
)
def test_a_body_of_another_type(api, alice, media_type):
    answer = api(alice).generic("POST", COMMANDS, b'{"text": "echo"}', content_type=media_type)
    problem_of(answer, ErrorCode.UNSUPPORTED_MEDIA_TYPE)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'text': 'echo'}",
        b'{"text": NaN}',
        b'{"text": -Infinity}',
        b'{"text": "\xff"}',
        b'\xef\xbb\xbf{"text": "echo"}',
        '{"text": "echo"}'.encode("utf-16"),
        b'{"text": "a\x00b"}',
        b'{"text": ' + b"9" * 5000 + b"}",
        DEEP,
        b'{"text": ' + DEEP + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_not_json(api, alice, body):
    answer = api(alice).generic("POST", COMMANDS, body, content_type="application/json")
    problem = problem_of(answer, ErrorCode.MALFORMED_BODY)
    assert len(problem["detail"]) < 200
    assert "sys." not in problem["detail"]


@pytest.mark.parametrize("body", [b"[]", b"[{}]", b'"text"', b"7", b"true", b"null", b"1e400"])
def test_a_body_that_is_not_an_object(api, alice, body):
    answer = api(alice).generic("POST", COMMANDS, body, content_type="application/json")
    assert fields_of(answer).keys() == {"body"}


def test_no_body_at_all(api, alice):
    assert fields_of(api(alice).post(COMMANDS)) == {"text": "required"}


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (b"{}", {"body": "invalid"}),
        (b'{"inner": {"number": "7"}}', {"inner.number": "invalid"}),
        (b'{"inner": {"number": 7.0}}', {"inner.number": "invalid"}),
        (b'{"inner": {"number": true}}', {"inner.number": "invalid"}),
        (b'{"inner": {"number": 1e400}}', {"inner.number": "invalid"}),
        (b'{"inner": {"other": 7}}', {"inner.other": "unknown_field"}),
        (b'{"several": [{"number": 1}, {}]}', {"several.1.number": "required"}),
        (b'{"anything": []}', {"anything": "not_a_dict"}),
        (b'{"anything": {"a": 1e400}}', {"anything": "unstorable"}),
        (b'{"anything": {"a": ["\\u0000"]}}', {"anything": "unstorable"}),
        (b'{"anything": {"\\ud800": 1}}', {"anything": "unstorable"}),
        (b'{"anything": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}", {"anything": "too_deep"}),
        (b'{"anything": {"a": "' + b"x" * 100 + b'"}}', {"anything": "too_large"}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_invalid_values_are_named_with_their_path(stranger, body, errors):
    assert fields_of(stranger.generic("POST", "/echo", body, content_type="application/json")) == errors


def test_the_largest_body_is_taken_and_one_byte_more_is_not(api, alice, settings):
    body = b'{"text": "echo"}'
    settings.MAX_BODY_BYTES = len(body)
    assert api(alice).generic("POST", COMMANDS, body, content_type="application/json").status_code == 201
    answer = api(alice).generic("POST", COMMANDS, body + b" ", content_type="application/json")
    problem_of(answer, ErrorCode.BODY_TOO_LARGE)


@pytest.mark.security
@pytest.mark.security_access
@pytest.mark.parametrize("door", ["fails", "fails-outside-drf"])
@pytest.mark.parametrize("name", ["unexpected", "denied", "suspicious"])
def test_a_failure_tells_nothing_of_the_inside(stranger, caplog, door, name):
    code = {"denied": ErrorCode.PERMISSION_DENIED, "suspicious": ErrorCode.BAD_REQUEST}.get(
        name, ErrorCode.INTERNAL_ERROR
    )
    answer = stranger.get(f"/{door}/{name}")
    problem_of(answer, code)
    assert str(FAILURES[name]) not in answer.content.decode()
    assert "Traceback" not in answer.content.decode()


def test_an_unexpected_failure_is_logged_with_its_cause(stranger, caplog):
    stranger.get("/fails/unexpected")
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_what_is_unavailable_says_when_to_try_again(stranger):
    answer = stranger.get("/fails/unavailable")
    problem_of(answer, ErrorCode.SERVICE_UNAVAILABLE)
    assert int(answer["Retry-After"]) > 0


def test_an_unknown_host(stranger):
    problem_of(stranger.get(ME, HTTP_HOST="evil.example"), ErrorCode.BAD_REQUEST)


@pytest.mark.security
@pytest.mark.security_access
def test_a_view_that_states_no_permission_serves_nobody(api, admin, stranger):
    problem_of(stranger.get("/forgot"), ErrorCode.NOT_AUTHENTICATED)
    problem_of(api(admin).get("/forgot"), ErrorCode.PERMISSION_DENIED)


def test_a_page_of_the_admin_that_is_not_there_is_a_page_for_people(admin_client):
    answer = admin_client.get("/admin/nothing/")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


def test_the_catalogue_explains_every_code(stranger):
    page = stranger.get("/api-docs/errors").content.decode()
    assert CATALOGUE.keys() == set(ErrorCode)
    for code in ErrorCode:
        assert f'id="{code}"' in page


def test_sentences_are_in_the_language_of_the_reader(stranger):
    answer = stranger.post("/api/v2/auth/login", {}, HTTP_ACCEPT_LANGUAGE="tr")
    details = {error["detail"] for error in problem_of(answer, ErrorCode.VALIDATION_ERROR)["errors"]}
    assert details == {"Bu alan zorunlu."}
    assert answer["Content-Language"] == "tr"
