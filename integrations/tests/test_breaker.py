import threading
from typing import Any

import pytest

from integrations.clients import http
from integrations.clients.base import WorkState
from integrations.clients.errors import Reason, ServiceError, TransientError
from integrations.tests.servers import Server, segmentation


class TestBreaker:
    def hang(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        def times_out(*_args: object, **_kwargs: object) -> None:
            server.requests.append(("", "", {}, b""))
            raise TransientError(Reason.TIMEOUT)

        monkeypatch.setattr(http, "_exchange", times_out)

    def test_after_some_time_outs_a_hanging_instance_is_left_alone_for_a_while(self, server, monkeypatch):
        self.hang(server, monkeypatch)
        for _ in range(http.BREAKER_FAILURES + 3):
            with pytest.raises(TransientError) as raised:
                segmentation(server.url).report("1")
            assert (raised.value.reason, raised.value.detail) == (Reason.TIMEOUT, "")
        assert len(server.requests) == http.BREAKER_FAILURES

    @pytest.mark.parametrize("status", [422, 404, 500, 503])
    def test_a_service_that_answers_is_asked_on(self, server, status):
        server.says({}, status=status)
        for _ in range(http.BREAKER_FAILURES + 3):
            with pytest.raises(ServiceError):
                segmentation(server.url).report("1")
        assert len(server.requests) == http.BREAKER_FAILURES + 3

    def test_it_recovers(self, server, monkeypatch):
        monkeypatch.setattr(http, "BREAKER_RESET_SECONDS", 0)
        client = segmentation(server.url)
        with pytest.MonkeyPatch.context() as patch:
            self.hang(server, patch)
            for _ in range(http.BREAKER_FAILURES):
                with pytest.raises(TransientError):
                    client.report("1")
        server.says({"id": "1", "status": "pending"})
        assert client.report("1").state is WorkState.WORKING

    def test_calls_do_not_wait_for_one_another(self, server):
        server.says({"id": "1", "status": "pending"})
        both = threading.Barrier(2, timeout=5)
        real = http._exchange

        def meet(*args: Any, **kwargs: Any) -> Any:
            both.wait()  # breaks unless two calls are under way at once
            return real(*args, **kwargs)

        errors = []

        def ask() -> None:
            try:
                segmentation(server.url).report("1")
            except (TransientError, threading.BrokenBarrierError) as error:
                errors.append(error)
            finally:
                http.forget_connections()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http, "_exchange", meet)
            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert errors == []
