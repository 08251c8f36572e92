"""The only module that speaks HTTP to the services: with limits on time and size, whatever they do."""

import json
import math
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests  # noqa: TID251 - here, and nowhere else
import urllib3
from django.conf import settings

from gateway.ids import new_id
from gateway.request_id import HEADER, request_id
from integrations.addresses import is_allowed
from integrations.clients.breaker import protected
from integrations.clients.deadline import Deadline, WatchedAdapter
from integrations.clients.errors import (
    InvalidAnswerError,
    NotFoundError,
    NotTakenError,
    PermanentError,
    Reason,
    ServiceError,
    TransientError,
)
from integrations.clients.retries import earn_retry, spend_retry

CONNECT_TIMEOUT = 3.0
HEALTH_TIMEOUT = 2.0
CHUNK_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_RETRY_AFTER = 60.0
PAUSE_SECONDS = (0.05, 0.15)  # at random, so that calls that broke together do not come back together
_PLAIN_JSON = {"Accept": "application/json", "Accept-Encoding": "identity"}  # what is packed may be huge unpacked
# What is wrong with a connection, for the person who has to mend it.
_BROKEN: tuple[tuple[type[Exception], str], ...] = (
    (socket.gaierror, "the name cannot be resolved"),
    (ssl.SSLCertVerificationError, "the certificate is not good"),
    (ssl.SSLError, "TLS failed"),
    (ConnectionRefusedError, "the connection was refused"),
)

_local = threading.local()


def forget_connections() -> None:
    """Close the connections that this thread keeps open."""
    session: requests.Session | None = _local.__dict__.pop("session", None)
    if session is not None:
        session.close()


def call(
    method: str,
    url: str,
    *,
    base_url: str,
    body: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
    heeds_idempotency_key: bool = True,
    is_registered: bool = False,
    is_search: bool = False,
) -> Any:
    """Send one request and return the parsed JSON of a 2xx answer.

    The whole answer, down to the last byte, has SERVICE_TIMEOUT seconds. An instance that was registered, and not named
    by the settings, is called only at an address that is allowed (integrations.addresses). A search is a question
    like a GET, even if it is a POST: it may be repeated, and its time-outs do not hold up work. Raises a ServiceError.

    A connection that broke, or did not come about, is tried once more at once, where that cannot do a thing twice. All
    other repeating, which takes longer, is the caller's.
    """
    headers = {HEADER: request_id.get() or str(new_id()), **_PLAIN_JSON}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    is_new_work = idempotency_key is not None
    only_asks = is_search or method == "GET"
    is_repeatable = only_asks or (is_new_work and heeds_idempotency_key)
    with protected(base_url, "POST" if is_new_work else "GET", is_new_work=is_new_work, is_search=is_search):
        earn_retry(base_url)
        with _limited(settings.SERVICE_TIMEOUT, is_registered=is_registered) as deadline:
            try:
                return _ask(method, url, deadline, json=body, headers=headers)
            except TransientError as error:
                if not _may_repeat(error, deadline, base_url, is_repeatable=is_repeatable):
                    raise
                first = error
            time.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311 - guards nothing
            try:
                return _ask(method, url, deadline, json=body, headers=headers)
            except (NotTakenError, NotFoundError) as error:
                raise _of_both(first, error, is_new_work=is_new_work) from error


def _of_both(first: TransientError, second: NotTakenError | NotFoundError, *, is_new_work: bool) -> ServiceError:
    """Say what went wrong. The first request may have arrived, even if the second certainly did nothing."""
    if isinstance(first, NotTakenError):
        return second
    if isinstance(second, NotTakenError):
        return TransientError(second.reason, second.detail, second.retry_after, no_answer=second.no_answer)
    return first if is_new_work else second


@contextmanager
def _limited(seconds: float, *, is_registered: bool) -> Iterator[Deadline]:
    """Limit what happens inside to some seconds, and for who was registered to the addresses that are allowed."""
    deadline = Deadline(seconds, is_allowed if is_registered else None)
    try:
        with deadline:
            yield deadline
    finally:
        if deadline.expired:
            forget_connections()


def _ask(method: str, url: str, deadline: Deadline, **options: Any) -> Any:
    response, content = _exchange(method, url, deadline, **options)
    if 200 <= response.status_code < 300:  # noqa: PLR2004 - RFC 9110, 15.3
        return _parse(content)
    raise _error_of(response, content)


def _may_repeat(error: TransientError, deadline: Deadline, base_url: str, *, is_repeatable: bool) -> bool:
    """Whether to try once more: what broke at once, is safe to send again, and does not add to a flood."""
    broke = error.no_answer and error.reason is Reason.UNAVAILABLE
    if not broke or deadline.left < 2 * PAUSE_SECONDS[1]:
        return False
    return (is_repeatable or isinstance(error, NotTakenError)) and spend_retry(base_url)


def _exchange(method: str, url: str, deadline: Deadline, **options: Any) -> tuple[requests.Response, bytes]:
    """Send one request and read the whole answer. Raises TransientError (no_answer) or InvalidAnswerError."""
    seconds = deadline.left
    try:
        with _session().request(
            method, url, timeout=(min(CONNECT_TIMEOUT, seconds), seconds), allow_redirects=False, stream=True, **options
        ) as response:
            content = _read(response)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        timed_out = deadline.expired or isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError)
        kind = NotTakenError if _never_connected(error) else TransientError
        reason = Reason.TIMEOUT if timed_out else Reason.UNAVAILABLE
        raise kind(reason, _what_broke(error, timed_out=timed_out), no_answer=True) from error
    if deadline.expired:  # an answer without a length ends where it was cut
        raise TransientError(Reason.TIMEOUT, no_answer=True)
    return response, content


def _what_broke(error: Exception, *, timed_out: bool) -> str:
    """Say in our own words what is wrong with the connection. What took too long did nothing worse."""
    cause: BaseException | None = error
    while cause is not None and not timed_out:
        for kind, words in _BROKEN:
            if isinstance(cause, kind):
                return words
        cause = cause.__cause__ or cause.__context__
    if _never_connected(error):
        return "no connection came about"
    return "" if timed_out else "the connection broke"


def _never_connected(error: Exception) -> bool:
    """Whether nothing of the request can have arrived. In doubt, as when TLS fails, it may have."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectionError) and isinstance(cause, urllib3.exceptions.NewConnectionError)


def _session() -> requests.Session:
    """Return this thread's session (they are not thread-safe), which keeps connections open between calls."""
    session: requests.Session | None = getattr(_local, "session", None)
    if session is None:
        session = _local.session = requests.Session()
        # What one instance sets as a cookie is not the business of another.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            session.mount(scheme, WatchedAdapter())
        session.trust_env = False  # neither proxies nor .netrc stand between the gateway and its services
    return session


def _read(response: requests.Response) -> bytes:
    """Read the body within the size limit: a service may never end."""
    content = bytearray()
    # Not iter_content(): it waits until a chunk is full, however slowly the bytes come.
    while chunk := response.raw.read1(CHUNK_BYTES):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise InvalidAnswerError("the answer is too large")
    return bytes(content)


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidAnswerError("the answer is not JSON") from error


def _error_of(response: requests.Response, content: bytes) -> ServiceError:
    status = response.status_code
    detail = _said(content)
    if status in (429, 503):
        retry_after = _retry_after(response)
        # A 503 without Retry-After may be a proxy's, whose connection broke after the service got the call.
        kind = NotTakenError if status == 429 or retry_after is not None else TransientError  # noqa: PLR2004 - RFC 6585, 4
        return kind(Reason.UNAVAILABLE, detail, retry_after)
    if status >= 500:  # noqa: PLR2004 - RFC 9110, 15.6
        return TransientError(Reason.ERROR, detail)
    if status in (408, 425):
        return TransientError(Reason.TIMEOUT, detail)
    if status == 404:  # noqa: PLR2004 - RFC 9110, 15.5.5
        return NotFoundError(detail)
    if status >= 400:  # noqa: PLR2004 - RFC 9110, 15.5
        return PermanentError(Reason.REFUSED, detail)
    return InvalidAnswerError(f"unexpected HTTP status {status}")


def _said(content: bytes) -> str:
    """Return the text of an error answer: one of the three members that the contract knows, else nothing."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict):
        return ""
    text = next((body[name] for name in ("detail", "error", "message") if isinstance(body.get(name), str)), "")
    return printable(text)


def printable(text: str, limit: int = 500) -> str:
    """Return text of foreign origin without what a database or a log cannot hold, and not too long."""
    return "".join(character for character in text[:limit] if character.isprintable())


def _retry_after(response: requests.Response) -> float | None:
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def get_health(url: str, *, is_registered: bool = False) -> str | None:
    """Return what an instance says of its health: the `status` of a JSON object, or plain text; None if it fails.

    Not through the breaker: this is how a recovered instance is noticed.
    """
    try:
        headers = {HEADER: str(new_id()), "Accept-Encoding": "identity"}
        with _limited(HEALTH_TIMEOUT, is_registered=is_registered) as deadline:
            response, content = _exchange("GET", url, deadline, headers=headers)
    except ServiceError:
        return None
    if response.status_code != 200:  # noqa: PLR2004 - the contract says 200
        return None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return content[:100].decode("utf-8", "replace")
    return str(body.get("status", "")) if isinstance(body, dict) else str(body)
