"""What the clients make of services that keep the contract, and of servers that keep none."""

import json
import socket
import threading

import pytest

from gateway.request_id import request_id
from integrations.clients import http
from integrations.clients.archive import ArchiveClient, ArchiveRequest, SearchRequest
from integrations.clients.base import WorkState
from integrations.clients.errors import (
    InvalidAnswerError,
    NotFoundError,
    NotTakenError,
    PermanentError,
    Reason,
    TransientError,
)
from integrations.clients.runner import RunnerClient, RunRequest
from integrations.clients.segmentation import SegmentRequest
from integrations.registry import Instance, ServiceKind
from integrations.tests.servers import raw_server, segmentation

SEGMENT = SegmentRequest("echo hello", "normal", "technical_expert", "u", {})
RUN = RunRequest("a.alt", "{}", "normal", "technical_expert", "normal", {"depth": 1}, "http://127.0.0.1/cb")
ARCHIVE = ArchiveRequest("l.last", "{}", {"success_rate": 1.0})


def runner(url: str) -> RunnerClient:
    return RunnerClient(Instance(ServiceKind.RUNNER, url))


def archive(url: str) -> ArchiveClient:
    return ArchiveClient(Instance(ServiceKind.ARCHIVE, url))


class TestContract:
    def test_the_archive_is_searched_as_the_contract_says(self, server):
        server.says({"results": [{"id": 7, "title": "x"}, {"id": "8"}], "count": 2})
        assert archive(server.url).search(SearchRequest("x", ["a"], 0, 1, 0)) == ["7"]
        method, path, headers, body = server.requests[0]
        assert (method, path, "Idempotency-Key" in headers) == ("POST", "/search", False)
        assert json.loads(body) == {"query": "x", "tags": ["a"], "min_success_rate": 0, "limit": 1, "offset": 0}

    def test_searches_that_fail_do_not_hold_up_archiving(self, server):
        server.says({}, status=500)
        for _ in range(4):
            with pytest.raises(TransientError):
                archive(server.url).search(SearchRequest("x", [], None, 1, 0))
        assert len(server.requests) == 3  # its breaker is open
        server.says({"id": "1", "status": "processing"})
        assert archive(server.url).submit(ArchiveRequest("1", "{}", {}), idempotency_key="k").remote_id == "1"

    def test_segmentation_is_asked_as_the_contract_says(self, server):
        server.says({"id": "1", "status": "completed", "alt_file": "task_1.alt", "metadata": {}})
        token = request_id.set("r-1")
        try:
            report = segmentation(server.url).submit(SEGMENT, idempotency_key="c:segmentation")
        finally:
            request_id.reset(token)
        assert (report.remote_id, report.state, report.file_id) == ("1", WorkState.DONE, "task_1.alt")
        method, path, headers, body = server.requests[0]
        assert (method, path) == ("POST", "/segment")
        assert headers["Idempotency-Key"] == "c:segmentation"
        assert headers["X-Request-ID"] == "r-1"
        assert json.loads(body) == {
            "command": "echo hello",
            "mode": "normal",
            "persona": "technical_expert",
            "user_id": "u",
            "metadata": {},
        }

    def test_the_runner_is_asked_as_the_contract_says(self, server):
        server.says({"taskId": 7, "status": "pending"}, status=202)
        report = runner(server.url).submit(RUN, idempotency_key="c:runner")
        assert (report.remote_id, report.state) == ("7", WorkState.WORKING)
        method, path, _headers, body = server.requests[0]
        assert (method, path) == ("POST", "/run")
        assert json.loads(body) == {
            "altFileId": "a.alt",
            "altContent": "{}",
            "options": {
                "mode": "normal",
                "persona": "technical_expert",
                "priority": "normal",
                "parameters": {"depth": 1},
                "callback_url": "http://127.0.0.1/cb",
            },
        }

    def test_the_archive_is_asked_as_the_contract_says(self, server):
        server.says({"id": "1", "status": "archived", "atlasFileId": "1.atlas"}, status=201)
        report = archive(server.url).submit(ARCHIVE, idempotency_key="c:archive")
        assert (report.state, report.file_id) == (WorkState.DONE, "1.atlas")
        method, path, _headers, body = server.requests[0]
        assert (method, path) == ("POST", "/archive")
        assert json.loads(body) == {"lastFileId": "l.last", "lastContent": "{}", "metadata": {"success_rate": 1.0}}

    def test_an_archive_that_does_not_name_the_file_yet_is_asked_again(self, server):
        server.says({"id": "1", "status": "archived"})
        client = archive(server.url)
        assert client.submit(ARCHIVE, idempotency_key="c:archive").state is WorkState.WORKING

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            ("pending", WorkState.WORKING),
            ("Processing", WorkState.WORKING),
            ("SUCCESS", WorkState.DONE),
            ("completed", WorkState.DONE),
            ("error", WorkState.FAILED),
            ("failed", WorkState.FAILED),
        ],
    )
    def test_the_words_for_a_state_are_read_in_any_case(self, server, status, state):
        server.says({"id": "1", "status": status, "alt_file": "1.alt"})
        assert segmentation(server.url).report("1").state is state

    def test_ids_stay_one_segment_of_the_path(self, server):
        server.says({"content": "text"})
        segmentation(server.url).fetch("../../a b?c#d.alt")
        assert server.requests[0][1] == "/files/alt/..%2F..%2Fa%20b%3Fc%23d.alt"

    def test_progress_is_kept_between_0_and_100(self, server):
        for progress, kept in ((-5, 0), (12.7, 12), (900, 100), (None, None)):
            server.says({"id": "1", "status": "running", "progress": progress})
            assert runner(server.url).report("1").progress == kept


class TestAnswersThatMakeNoSense:
    @pytest.mark.parametrize(
        "answer",
        [
            b"<html>Bad gateway</html>",
            b"",
            b"\xff\xfe",
            b"[" * 100_000,
            [],
            "done",
            {},
            {"id": "1"},
            {"id": None, "status": "completed", "alt_file": "1.alt"},
            {"id": "1", "status": "completed"},
            {"id": "1", "status": "completed", "alt_file": ""},
            {"id": "1", "status": "completed", "alt_file": ".."},
            {"id": "1", "status": "completed", "alt_file": "x" * 256},
            {"id": "1", "status": "completed", "alt_file": "a\0b"},
            {"id": "1\n", "status": "pending"},
            {"id": "", "status": "pending"},
            {"id": "1", "status": "sleeping"},
            {"id": "1", "status": 5, "alt_file": "1.alt"},
        ],
    )
    def test_they_are_invalid_and_nothing_worse(self, server, answer):
        server.says(answer)
        with pytest.raises(InvalidAnswerError):
            segmentation(server.url).submit(SEGMENT, idempotency_key="k")

    def test_a_report_about_another_task_is_invalid(self, server):
        server.says({"id": "2", "status": "running"})
        with pytest.raises(InvalidAnswerError):
            runner(server.url).report("1")

    @pytest.mark.parametrize("content", [None, 5, ["a"], {"a": 1}])
    def test_a_file_that_is_not_text_is_invalid(self, server, content):
        server.says({"content": content})
        with pytest.raises(InvalidAnswerError):
            segmentation(server.url).fetch("1.alt")

    def test_redirects_are_not_followed(self, server):
        server.says({}, status=302, Location="http://127.0.0.1:1/")
        with pytest.raises(InvalidAnswerError):
            segmentation(server.url).report("1")
        assert len(server.requests) == 1

    def test_an_answer_without_end_is_cut_off(self, server, monkeypatch):
        monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 1000)
        server.says({"content": "x" * 5000})
        with pytest.raises(InvalidAnswerError):
            segmentation(server.url).fetch("1.alt")


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind", "reason"),
        [
            (400, PermanentError, Reason.REFUSED),
            (401, PermanentError, Reason.REFUSED),
            (422, PermanentError, Reason.REFUSED),
            (404, NotFoundError, Reason.NOT_FOUND),
            (408, TransientError, Reason.TIMEOUT),
            (425, TransientError, Reason.TIMEOUT),
            (429, TransientError, Reason.UNAVAILABLE),
            (500, TransientError, Reason.ERROR),
            (502, TransientError, Reason.ERROR),
            (503, TransientError, Reason.UNAVAILABLE),
        ],
    )
    def test_every_status_has_its_meaning(self, server, status, kind, reason):
        server.says({"detail": "because"}, status=status)
        with pytest.raises(kind) as raised:
            segmentation(server.url).report("1")
        assert (raised.value.reason, raised.value.detail) == (reason, "because")

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"error": "no"}, "no"),
            ({"message": "no\x00\n"}, "no"),
            ({"detail": {"a": 1}}, ""),
            ([], ""),
            (b"<html>", ""),
            ({"detail": "x" * 5000}, "x" * 500),
        ],
    )
    def test_what_is_said_about_it_is_kept_if_it_can_be_shown(self, server, body, said):
        server.says(body, status=500)
        with pytest.raises(TransientError) as raised:
            segmentation(server.url).report("1")
        assert raised.value.detail == said

    @pytest.mark.parametrize(
        ("header", "seconds"), [("7", 7.0), ("-5", 0.0), ("99999", 60.0), ("nan", None), ("soon", None), ("inf", None)]
    )
    def test_retry_after_is_read_within_reason(self, server, header, seconds):
        server.says({}, status=503, Retry_After=header)
        with pytest.raises(TransientError) as raised:
            segmentation(server.url).report("1")
        assert raised.value.retry_after == seconds

    @pytest.mark.parametrize(
        ("status", "headers", "certain"),
        [(429, {}, True), (503, {"Retry_After": "1"}, True), (503, {}, False), (500, {"Retry_After": "1"}, False)],
    )
    def test_only_a_service_that_says_so_certainly_took_nothing(self, server, status, headers, certain):
        server.says({}, status=status, **headers)
        with pytest.raises(TransientError) as raised:
            segmentation(server.url).report("1")
        assert isinstance(raised.value, NotTakenError) is certain

    def test_a_name_that_does_not_resolve(self):
        with pytest.raises(NotTakenError) as raised:
            segmentation("http://nobody.invalid").report("1")
        assert raised.value.detail == "the name cannot be resolved"

    def test_no_server(self):
        with pytest.raises(TransientError) as raised:
            segmentation("http://127.0.0.1:1").report("1")
        assert (raised.value.reason, raised.value.detail) == (Reason.UNAVAILABLE, "the connection was refused")
        assert isinstance(raised.value, NotTakenError)

    def test_a_server_that_hangs_up(self):
        with raw_server(socket.socket.close) as url, pytest.raises(TransientError) as raised:
            segmentation(url).report("1")
        assert (raised.value.reason, raised.value.detail) == (Reason.UNAVAILABLE, "the connection broke")
        assert not isinstance(raised.value, NotTakenError)  # it may have got the call

    def test_a_server_that_says_nothing(self, settings):
        settings.SERVICE_TIMEOUT = 0.2

        def wait_until_the_client_hangs_up(connection: socket.socket) -> None:
            connection.recv(1)

        with raw_server(wait_until_the_client_hangs_up) as url, pytest.raises(TransientError) as raised:
            segmentation(url).report("1")
        assert raised.value.reason is Reason.TIMEOUT

    @pytest.mark.parametrize(
        ("opening", "drip"),
        [
            (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x" * 100),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
            (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
        ],
        ids=["header", "continue", "body", "chunk size", "body without end"],
    )
    def test_a_server_that_drips_is_cut_off_by_the_time_for_the_whole_answer(self, settings, opening, drip):
        settings.SERVICE_TIMEOUT = 0.4
        hung_up = threading.Event()

        def serve(connection: socket.socket) -> None:
            try:
                connection.sendall(opening)
                while not hung_up.wait(0.05):
                    connection.sendall(drip)
            except OSError:
                hung_up.set()

        with raw_server(serve) as url, pytest.raises(TransientError) as raised:
            segmentation(url).report("1")
        assert raised.value.reason is Reason.TIMEOUT
        assert hung_up.wait(5)  # long before the server would have ended by itself: never
