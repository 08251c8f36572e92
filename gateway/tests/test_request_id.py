"""One id for a request: in the answer, in the log and in what is sent on."""

import logging

import pytest

from gateway.log_secrets import SecretsFilter
from gateway.request_id import HEADER, RequestIdFilter, accepted_or_new, request_id

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("given", ["a", "0193-AB.cd_ef:7", "x" * 100])
def test_an_id_that_is_given_is_kept(client, given):
    for path in ("/health/live", "/api/v2/me", "/nothing"):
        assert client.get(path, headers={HEADER: given})[HEADER] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 101, "ğ", "a\nb", "a\n", '"', "<b>", "a,b"])
def test_an_id_unfit_for_a_log_is_replaced(given):
    assert accepted_or_new(given) != given
    assert len(accepted_or_new(given)) == 36


def test_every_request_gets_an_id_of_its_own(client):
    ids = {client.get("/health/live")[HEADER] for _ in range(3)}
    assert len(ids) == 3


def test_nothing_is_left_over_after_a_request(client):
    client.get("/health/live", headers={HEADER: "mine"})
    assert request_id.get() == ""


def test_the_line_that_django_logs_about_a_failed_request_has_its_id(client, caplog):
    with caplog.at_level(logging.WARNING, logger="django.request"):
        caplog.handler.addFilter(RequestIdFilter())
        client.get("/api/v2/nothing", headers={HEADER: "mine"})
    assert [record.__dict__["request_id"] for record in caplog.records] == ["mine"]


def test_a_line_outside_of_requests_has_a_dash():
    record = logging.makeLogRecord({"msg": "x"})
    assert RequestIdFilter().filter(record)
    assert record.__dict__["request_id"] == "-"


@pytest.mark.security
@pytest.mark.security_sessions
def test_the_token_of_a_callback_stays_out_of_the_logs():
    path = "/api/v2/callbacks/runner/a:b"
    for message, args in (("%s: %s", ("Not Found", path)), (f"Not Found: {path}", ())):
        record = logging.LogRecord("x", logging.WARNING, "", 0, message, args, None)
        assert SecretsFilter().filter(record)
        assert record.getMessage() == "Not Found: /api/v2/callbacks/runner/..."
