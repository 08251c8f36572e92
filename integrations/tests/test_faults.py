"""What a client makes of each fault of a service: the right error, soon; and once it is over, nothing is left of it."""

import time

import pytest

from integrations.clients import http
from integrations.clients.errors import (
    InvalidAnswerError,
    NotTakenError,
    PermanentError,
    Reason,
    ServiceError,
    TransientError,
)
from integrations.clients.segmentation import SegmentRequest
from integrations.tests.servers import Server, segmentation, stranger

SEGMENT = SegmentRequest("echo hello", "normal", "technical_expert", "u", {})
TIMEOUT_SECONDS = 0.4
SOON_SECONDS = 5  # a busy machine is given time; a client without limits would wait for ever

GONE = (TransientError, Reason.UNAVAILABLE)
LATE = (TransientError, Reason.TIMEOUT)
SENSELESS = (InvalidAnswerError, Reason.INVALID_ANSWER)


@pytest.fixture(autouse=True)
def _little_patience(settings):
    settings.SERVICE_TIMEOUT = TIMEOUT_SECONDS
    yield
    http.forget_connections()


@pytest.mark.parametrize(
    ("fault", "options", "expected"),
    [
        ("hang", {}, LATE),
        ("drop", {}, GONE),
        ("reset", {"where": "headers"}, GONE),
        ("reset", {"where": "body"}, GONE),
        ("drip", {"where": "headers", "seconds": 0.1}, LATE),
        ("drip", {"where": "body", "seconds": 0.1}, LATE),
        ("fail", {"status": 500}, (TransientError, Reason.ERROR)),
        ("fail", {"status": 429, "retry_after": 7}, (NotTakenError, Reason.UNAVAILABLE)),
        ("garbage", {"variant": "html"}, SENSELESS),
        ("garbage", {"variant": "truncated"}, SENSELESS),
        ("garbage", {"variant": "cut_short"}, GONE),
        ("garbage", {"variant": "huge"}, SENSELESS),
        ("fail", {"status": 422}, (PermanentError, Reason.REFUSED)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_is_an_error_at_once_and_forgotten_when_it_is_over(sandbox, settings, fault, options, expected):
    if options.get("variant") == "huge":
        settings.SERVICE_TIMEOUT = 30  # what ends it is the limit of its size
    client = segmentation(sandbox.segmentation.url)
    sandbox.segmentation.fault(fault, **options)
    began = time.monotonic()
    with pytest.raises(ServiceError) as raised:
        client.submit(SEGMENT, idempotency_key=fault)
    assert time.monotonic() - began < SOON_SECONDS
    assert (type(raised.value), raised.value.reason) == expected
    assert raised.value.retry_after == options.get("retry_after")
    sandbox.segmentation.behave()
    settings.SERVICE_TIMEOUT = 10
    assert client.submit(SEGMENT, idempotency_key=fault).file_id


def test_work_that_was_done_before_the_answer_broke_is_not_done_again(sandbox, settings):
    settings.SERVICE_TIMEOUT = 10
    client = segmentation(sandbox.segmentation.url)
    sandbox.segmentation.fault("reset", done=True)
    for _ in range(2):
        with pytest.raises(TransientError):
            client.submit(SEGMENT, idempotency_key="done before")
    sandbox.segmentation.behave()
    client.submit(SEGMENT, idempotency_key="done before")
    assert sandbox.segmentation.works_of("done before") == 1


def test_an_answer_about_something_else_is_not_taken_for_this(sandbox, settings):
    settings.SERVICE_TIMEOUT = 10
    client = segmentation(sandbox.segmentation.url)
    mine = client.submit(SEGMENT, idempotency_key="mine").remote_id
    sandbox.segmentation.fault("wrong_id", times=1)
    with pytest.raises(InvalidAnswerError):
        client.report(mine)
    assert client.report(mine).remote_id == mine


def test_an_answer_that_comes_twice_does_not_answer_the_next_question(sandbox, settings):
    settings.SERVICE_TIMEOUT = 10
    client = segmentation(sandbox.segmentation.url)
    first, second = (client.submit(SEGMENT, idempotency_key=key).remote_id for key in ("first", "second"))
    sandbox.segmentation.fault("duplicate")
    for _ in range(3):
        assert client.report(first).remote_id == first
        assert client.report(second).remote_id == second


def test_a_certificate_that_nobody_vouches_for():
    with stranger() as url, pytest.raises(TransientError) as raised:
        segmentation(url).report("1")
    assert (raised.value.reason, raised.value.detail) == (Reason.UNAVAILABLE, "the certificate is not good")


def test_a_server_that_speaks_no_tls(server):
    with pytest.raises(TransientError) as raised:
        segmentation(server.url.replace("http:", "https:")).report("1")
    assert (raised.value.reason, raised.value.detail) == (Reason.UNAVAILABLE, "TLS failed")
    assert server.requests == []


def test_a_name_that_leads_elsewhere_later_is_followed_when_the_old_place_is_gone(dns):
    old = Server()
    new = Server("127.0.0.2", old.port)
    old.says({"id": "1", "status": "pending"})
    new.says({"id": "1", "status": "completed", "alt_file": "1.alt"})
    dns["segmentation.test"] = ["127.0.0.1"]
    client = segmentation(f"http://segmentation.test:{old.port}")
    try:
        assert client.report("1").file_id is None
        dns["segmentation.test"] = ["127.0.0.2"]
        old.close()
        http.forget_connections()  # as the end of the old process closes them
        assert client.report("1").file_id == "1.alt"
    finally:
        new.close()
