"""Real processes, and waiting for what they do."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


def eventually(probe: Callable[[], T | None], seconds: float = 20) -> T:
    """Poll until the probe returns something true."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        value = probe()
        if value:
            return value
        pause.wait(0.01)
    raise AssertionError("it did not happen in time")


class ServiceProcess:
    """``python -m integrations.sandbox`` on an inherited socket, which listens before the process does."""

    def __init__(self, name: str, state_dir: Path) -> None:
        self._command = [sys.executable, "-m", "integrations.sandbox", name, "--state-dir", str(state_dir)]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self._listener.getsockname()[1]}", timeout=20, trust_env=False
        )
        self.start()

    def start(self) -> None:
        descriptor = self._listener.fileno()
        self._process = subprocess.Popen(  # noqa: S603 - our own module with our own arguments
            [*self._command, "--fd", str(descriptor)], pass_fds=[descriptor], stdout=subprocess.DEVNULL
        )
        assert self.client.get("/health").json()["status"] == "ok"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        # The pool would offer the next request a connection to the dead.
        address = self.client.base_url
        self.client.close()
        self.client = httpx.Client(base_url=address, timeout=20, trust_env=False)

    def terminate(self) -> float:
        """Send SIGTERM and return how long the process took to go."""
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)
        return time.monotonic() - started

    def close(self) -> None:
        self.client.close()
        self._listener.close()
        if self._process.poll() is None:
            self.terminate()

    def run(self, *tasks: dict[str, Any], key: str | None = None, **options: Any) -> str:
        answer = self.client.post(
            "/run",
            json={"altFileId": "a.alt", "altContent": {"tasks": list(tasks)}, "options": options},
            headers={} if key is None else {"Idempotency-Key": key},
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["taskId"])

    def finished(self, run_id: str) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            body: dict[str, Any] = self.client.get(f"/tasks/{run_id}").json()
            return body if body["status"] in {"completed", "failed", "cancelled"} else None

        return eventually(over)

    def last(self, run_id: str) -> dict[str, Any]:
        name = self.finished(run_id)["lastFileId"]
        document: dict[str, Any] = json.loads(self.client.get(f"/files/last/{name}").json()["content"])
        return document


class CallbackReceiver:
    """Takes callbacks, refusing the first ones if asked to."""

    def __init__(self, *, refuse_final: int = 0) -> None:
        self.bodies: queue.Queue[dict[str, Any]] = queue.Queue()
        refusals = iter(range(refuse_final))
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                is_final = "lastFileId" in body
                status = 503 if is_final and next(refusals, None) is not None else 204
                bodies.put({**body, "answered": status, "request_id": self.headers["X-Request-ID"]})
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/callback"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def until_final(self) -> list[dict[str, Any]]:
        """Return the bodies up to the first accepted one that tells the end."""
        bodies = []
        while True:
            bodies.append(self.bodies.get(timeout=20))
            if "lastFileId" in bodies[-1] and bodies[-1]["answered"] == 204:
                return bodies
