"""How calls travel: repeated only where that is safe and seldom, to allowed addresses only, and never for too long."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from integrations import addresses
from integrations.clients import http, retries
from integrations.clients.base import Answer
from integrations.clients.breaker import standings_of
from integrations.clients.deadline import Deadline
from integrations.clients.dialects.archive_b import Client as ArchiveB
from integrations.clients.dialects.runner_b import Client as RunnerB
from integrations.clients.errors import NotTakenError, Reason, ServiceError, TransientError
from integrations.clients.http import call, get_health
from integrations.registry import Instance, ServiceKind
from integrations.tests.servers import raw_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def server_that(*acts: bytes | None) -> Iterator[tuple[str, list[int]]]:
    """A server that answers each connection in turn with these bytes, None breaks it off; the last one for ever."""
    connections: list[int] = []

    def serve(connection: socket.socket) -> None:
        act = acts[min(len(connections), len(acts) - 1)]
        connections.append(1)
        if act is not None:
            connection.sendall(act)

    with raw_server(serve) as url:
        yield url, connections
        http.forget_connections()


def outcome(method: str, url: str, **options: Any) -> object:
    try:
        return call(method, url, base_url=url, **options)
    except ServiceError as error:
        return error.reason


class TestRepeating:
    @pytest.mark.parametrize(
        ("method", "options", "is_repeated"),
        [
            ("GET", {}, True),
            ("POST", {"idempotency_key": "k"}, True),
            ("POST", {"is_search": True}, True),
            ("POST", {}, False),
            ("POST", {"idempotency_key": "k", "heeds_idempotency_key": False}, False),
        ],
    )
    def test_a_connection_that_broke_is_tried_again_where_nothing_is_done_twice(self, method, options, is_repeated):
        with server_that(None, OK) as (url, connections):
            assert outcome(method, url, **options) == ({} if is_repeated else Reason.UNAVAILABLE)
            assert len(connections) == 1 + is_repeated
            assert standings_of([url])[url].in_flight == 0

    def test_runner_b_is_one_of_those_that_do_a_thing_twice(self):
        with server_that(None, OK) as (url, connections):
            client = RunnerB(Instance(ServiceKind.RUNNER, url))
            with pytest.raises(TransientError):
                client.ask(Answer, "POST", "/api/v1/process", idempotency_key="k")
            assert len(connections) == 1

    def test_what_nobody_can_have_got_is_sent_again_in_any_case(self, monkeypatch):
        tries = []

        def unknown(_host: str) -> None:
            tries.append(1)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(addresses, "_resolve", unknown)
        assert outcome("POST", "http://nobody.invalid") is Reason.UNAVAILABLE
        assert len(tries) == 2

    @pytest.mark.parametrize("status", [b"429 Slow", b"500 Oh", b"503 No"])
    def test_what_was_answered_is_not_asked_again(self, status):
        """Waiting is the pipeline's, which knows how long."""
        answer = b"HTTP/1.1 %s\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n" % status
        with server_that(answer) as (url, connections):
            assert outcome("GET", url) in (Reason.UNAVAILABLE, Reason.ERROR)
            assert len(connections) == 1

    @pytest.mark.parametrize("second", [b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", "nobody listens"])
    def test_what_the_first_request_may_have_begun_nobody_says_was_not_taken(self, second, monkeypatch):
        """Else the pipeline would give the same work to another instance."""
        if isinstance(second, bytes):
            acts = (None, second)
        else:
            acts = (None,)
            monkeypatch.setattr(http, "_never_connected", lambda _error: len(connections) > 1)
        with server_that(*acts) as (url, connections):
            with pytest.raises(TransientError) as raised:
                call("POST", url, base_url=url, idempotency_key="k")
            assert len(connections) == 2
        assert not isinstance(raised.value, NotTakenError)

    def test_a_service_in_trouble_gets_few_calls_more(self, monkeypatch):
        monkeypatch.setattr(http, "PAUSE_SECONDS", (0, 0))
        with server_that(None) as (url, connections):
            for _ in range(60):
                outcome("GET", url)
                retries_so_far = len(connections) - 60
        assert retries_so_far <= retries.RESERVE + 60 * retries.SHARE
        assert retries_so_far >= 60 * retries.SHARE

    def test_it_all_has_the_time_of_one_call(self, settings):
        settings.SERVICE_TIMEOUT = 0.4
        hung_up = threading.Event()

        def serve(connection: socket.socket) -> None:
            if not served:
                served.append(1)  # breaks off
            else:
                connection.recv(1)  # says nothing until the client hangs up
                hung_up.set()

        served: list[int] = []
        with raw_server(serve) as url:
            assert outcome("GET", url) is Reason.TIMEOUT
            assert hung_up.wait(5)
            assert standings_of([url])[url].in_flight == 0


def drips(opening: bytes, hung_up: threading.Event) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        try:
            connection.sendall(opening)
            while not hung_up.wait(0.05):
                connection.sendall(b"x")
        except OSError:
            hung_up.set()

    return serve


class TestTime:
    def test_a_resolver_that_hangs_is_not_waited_for(self, monkeypatch, settings):
        settings.SERVICE_TIMEOUT = 0.2
        answers = threading.Event()
        monkeypatch.setattr(addresses, "_resolve", lambda _host: answers.wait(30))
        try:
            with pytest.raises(NotTakenError) as raised:
                call("POST", "http://slow.test", base_url="http://slow.test", idempotency_key="k")
            assert (raised.value.reason, raised.value.no_answer) == (Reason.TIMEOUT, True)
            assert not answers.is_set()
        finally:
            answers.set()

    def test_all_addresses_of_a_name_are_tried_in_the_order_of_the_resolver(self, server, dns):
        server.says({})
        for found in (["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.1"]):
            dns["runner.test"] = found
            assert outcome("GET", f"http://runner.test:{server.port}") == {}
            http.forget_connections()
        assert addresses.resolved("runner.test", 1) == ["::1", "127.0.0.1"]

    def test_a_handshake_that_never_ends_is_cut_off(self, settings):
        settings.SERVICE_TIMEOUT = 0.4
        hung_up = threading.Event()
        with raw_server(drips(b"\x16\x03\x03\x40\x00", hung_up)) as url:
            assert outcome("POST", url.replace("http:", "https:")) is Reason.TIMEOUT
            assert hung_up.wait(5)

    def test_a_deadline_that_is_over_does_not_cut_what_comes_after_it(self):
        """The connection is kept, and may be another call's when the time of the first one comes."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with Deadline(20) as deadline:
                deadline.watch(ours)
            deadline.cut()
            assert ours.send(b"x") == 1

    def test_what_was_cut_is_not_used_again(self, settings):
        """A moment later it may be cut for good, whoever uses it then."""
        settings.SERVICE_TIMEOUT = 0.2
        with raw_server(drips(b"HTTP/1.1 200 OK\r\nX: ", threading.Event())) as url:
            assert outcome("GET", url) is Reason.TIMEOUT
        assert "session" not in http._local.__dict__

    def test_it_is_kept_in_a_child_process_too(self, settings):
        """A worker is a child, and threads do not come along into it."""
        settings.SERVICE_TIMEOUT = 0.4
        with Deadline(20), raw_server(drips(b"HTTP/1.1 200 OK\r\nX: ", threading.Event())) as url:
            child = os.fork()
            if not child:
                signal.alarm(10)
                os._exit(0 if outcome("POST", url) is Reason.TIMEOUT else 1)
            assert os.waitpid(child, 0)[1] == 0


class TestAddresses:
    pytestmark = [pytest.mark.security, pytest.mark.security_access]  # noqa: RUF012 - as pytest wants it

    def test_nothing_is_sent_where_it_is_not_allowed(self, settings, dns):
        settings.SERVICE_PRIVATE_ADDRESSES = False
        dns["localhost"] = ["127.0.0.1", "::1"]
        for scheme in ("http", "https"):
            with server_that(OK) as (url, connections):
                address = url.replace("http", scheme).replace("127.0.0.1", "localhost")
                with pytest.raises(NotTakenError):
                    call("GET", address, base_url=url, is_registered=True)
                assert get_health(address, is_registered=True) is None
                assert connections == []

    def test_not_even_by_a_file_that_is_the_entry_itself(self, server, settings):
        settings.SERVICE_PRIVATE_ADDRESSES = False
        with pytest.raises(NotTakenError):
            ArchiveB(Instance(ServiceKind.ARCHIVE, server.url, is_registered=True)).fetch("1")
        assert server.requests == []

    def test_a_connection_that_another_kept_open_is_no_way_around_it(self, server, settings):
        settings.SERVICE_PRIVATE_ADDRESSES = False
        server.says({})
        call("GET", server.url, base_url=server.url)  # the settings name it, so it may be anywhere
        with pytest.raises(TransientError):
            call("GET", server.url, base_url=server.url, is_registered=True)
        assert len(server.requests) == 1
        settings.SERVICE_PRIVATE_ADDRESSES = True
        call("GET", server.url, base_url=server.url, is_registered=True)


def test_health_is_asked_for_plainly(server):
    """What is packed may be huge when it is unpacked."""
    server.says({"status": "ok"})
    assert get_health(server.url) == "ok"
    assert server.requests[0][2]["Accept-Encoding"] == "identity"
