"""A body that is too large is refused while it arrives, before the application has it."""

import asyncio
import json

import pytest

from gateway.api.body_limit import BodyLimit
from gateway.api.errors import ErrorCode
from gateway.asgi import application

pytestmark = [pytest.mark.security, pytest.mark.security_authentication]

LIMIT = 100


@pytest.fixture(autouse=True)
def _limit(settings):
    settings.MAX_BODY_BYTES = LIMIT


class Exchange:
    """A client with a body in chunks; `taken` counts those that the application asked for."""

    def __init__(self, chunks):
        self.messages = [
            {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
            for number, chunk in enumerate(chunks, start=1)
        ]
        self.taken = 0
        self.sent = []

    async def receive(self):
        if self.taken == len(self.messages):
            await asyncio.Event().wait()  # the client sends no more, and waits for the answer
        self.taken += 1
        return self.messages[self.taken - 1]

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {name.decode().lower(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self):
        return json.loads(b"".join(message.get("body", b"") for message in self.sent[1:]))


async def post(app, chunks, headers=(), path="/api/v2/auth/login"):
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"testserver"), (b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
    }
    exchange = Exchange(chunks)
    await app(scope, exchange.receive, exchange.send)
    return exchange


def length(number):
    return (b"content-length", str(number).encode())


def assert_refused(exchange, request_id=None):
    assert exchange.status == 413
    assert exchange.headers["content-type"] == "application/problem+json"
    assert exchange.body["code"] == ErrorCode.BODY_TOO_LARGE
    assert exchange.body["request_id"] == exchange.headers["x-request-id"]
    assert request_id in (None, exchange.body["request_id"])


async def test_a_length_above_the_limit_is_refused_before_anything_is_read():
    exchange = await post(application, [b"x"], [length(LIMIT + 1), (b"x-request-id", b"mine")])
    assert_refused(exchange, "mine")
    assert exchange.taken == 0


@pytest.mark.parametrize("announced", [b"x", b"-1", b"", b"1e3", b"9" * 5000])
async def test_a_length_that_is_no_length_is_refused(announced):
    assert_refused(await post(application, [b"x"], [(b"content-length", announced)]))


async def test_a_chunked_body_is_refused_as_soon_as_it_passes_the_limit():
    exchange = await post(application, [b"x" * 60] * 1000)
    assert_refused(exchange)
    assert exchange.taken == 2


async def test_a_body_that_is_longer_than_announced_is_refused():
    assert_refused(await post(application, [b"x" * 60] * 2, [length(60)]))


async def test_a_path_that_is_not_there_takes_no_large_body_either():
    assert_refused(await post(application, [b"x" * 60] * 2, path="/nothing"))


@pytest.mark.parametrize("chunks", [[b" " * LIMIT], [b" " * 50, b"", b" " * 50], [b""]])
async def test_a_body_within_the_limit_reaches_the_application(chunks):
    """Blanks are no JSON: an answer about that shows that the application read them."""
    exchange = await post(application, chunks)
    assert exchange.status == 400
    assert exchange.body["code"] in (ErrorCode.MALFORMED_BODY, ErrorCode.VALIDATION_ERROR)


async def test_what_is_not_http_passes_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    call = ({"type": "websocket"}, object(), object())
    await BodyLimit(app)(*call)
    assert seen == [call]
