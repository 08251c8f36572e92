"""Health, asked by strangers: what fails is named, what is inside is not, and nothing hangs."""

import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_server
from threading import Event, Thread

import pytest
from django.core.cache import cache
from django.db import OperationalError

from commands import tasks
from gateway import health
from gateway.settings.base import redis_settings
from integrations.clients import http

pytestmark = pytest.mark.django_db

HEALTH, LIVE, READY = "/health", "/health/live", "/health/ready"
KINDS = ("segmentation", "runner", "archive")
QUEUES = (*KINDS, "control")
ANSWERS = {
    "json-ok": (200, b'{"status": "ok"}'),
    "json-up": (200, b'{"status": "UP"}'),
    "json-healthy": (200, b'{"status": "Healthy", "version": 3}'),
    "plain": (200, b"OK\n"),
    "string": (200, b'"ok"'),
    "error": (500, b'{"status": "ok"}'),
    "unavailable": (503, b"OK"),
    "redirect": (302, b"OK"),
    "down": (200, b'{"status": "DOWN"}'),
    "garbage": (200, b"\xff\x00{"),
    "nothing": (200, b""),
    "list": (200, b"[]"),
    "no-status": (200, b'{"state": "ok"}'),
    "deep": (200, b"[" * 100_000),
}
ACCEPTED = ["json-ok", "json-up", "json-healthy", "plain", "string"]


class Handler(BaseHTTPRequestHandler):
    released = Event()

    def do_GET(self):
        name = self.path.split("/")[1]
        if name == "hang":
            self.released.wait(30)
            return
        status, body = ANSWERS[name]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def service():
    """Return the address of a server whose instances (`/<name>`) answer as ANSWERS says, or hang."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def all_is_well(service, settings, monkeypatch):
    monkeypatch.setattr(http, "HEALTH_TIMEOUT", 1.0)
    settings.SERVICE_URLS = {kind: [f"{service}/json-ok"] for kind in KINDS}
    for queue in QUEUES:
        health.worker_heartbeat(queue)


@contextmanager
def check_replaced(monkeypatch, name, check):
    with monkeypatch.context() as patch:
        patch.setitem(health._runners, name, health._Runner(name, check))
        yield


def assert_failed(client, *names):
    """The gateway is not ready because of these parts and no others, and lives all the same."""
    answer = client.get(READY)
    body = answer.json()
    assert {name for name, check in body["checks"].items() if check["status"] != "ok"} == set(names)
    assert (answer.status_code, body["status"]) == (503, "unavailable")
    assert int(answer["Retry-After"]) > 0
    summary = client.get(HEALTH)
    assert (summary.status_code, summary.json()["status"]) == (200, "degraded")
    assert summary.json()["checks"].keys() == body["checks"].keys()
    assert client.get(LIVE).status_code == 200
    return body


def test_when_all_is_well_every_check_says_so(client):
    answer = client.get(READY)
    assert answer.json() == {
        "status": "ok",
        "checks": {name: {"status": "ok"} for name in ("database", "redis", "worker", *KINDS)},
    }
    assert client.get(HEALTH).json()["status"] == "ok"
    assert client.get(LIVE).json() == {"status": "ok"}


@pytest.mark.parametrize("path", [HEALTH, LIVE, READY])
def test_head_is_get_without_a_body_and_nothing_is_cached(client, path):
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert "no-store" in answer["Cache-Control"]


def test_a_database_that_fails_is_named_without_its_words(client, monkeypatch):
    class Broken:
        def cursor(self):
            raise OperationalError('FATAL: password authentication failed for user "gateway" at 10.0.0.7')

        def close(self):
            """Nothing was open."""

    monkeypatch.setattr(health, "connection", Broken())
    body = assert_failed(client, "database")
    assert body["checks"]["database"] == {"status": "failed", "detail": "does not answer"}


def use_redis(settings, port):
    caches = redis_settings(f"redis://:secret@127.0.0.1:{port}/0")["CACHES"]
    caches["default"]["OPTIONS"] |= {"SOCKET_CONNECT_TIMEOUT": 0.1, "SOCKET_TIMEOUT": 0.1}
    settings.CACHES = caches


@pytest.mark.parametrize("state", ["stopped", "silent"])
def test_a_redis_that_does_not_work_is_named(client, settings, state):
    """Without it nobody knows of a worker either. The services are asked themselves."""
    with create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if state == "silent" else 1
        use_redis(settings, port)
        body = assert_failed(client, "redis", "worker")
    assert "secret" not in str(body)


def test_without_a_worker_of_every_queue_it_is_not_ready(client, monkeypatch):
    cache.delete(health._HEARTBEAT_KEY.format("runner"))
    cache.set(health._HEARTBEAT_KEY.format("control"), time.time() - health.WORKER_SILENCE_LIMIT - 1)
    detail = assert_failed(client, "worker")["checks"]["worker"]["detail"]
    assert detail == "no worker has finished a task lately: runner, control"

    # Where there is much to do, heartbeats wait or expire. What is done there tells as much.
    monkeypatch.setattr(health, "_told_at", {})
    health.worker_works("control")
    assert_failed(client, "worker")
    tasks.advance("runner")
    assert client.get(READY).status_code == 200
    cache.delete(health._HEARTBEAT_KEY.format("runner"))
    health.worker_works("runner")  # not told again so soon: it costs a round trip
    assert_failed(client, "worker")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("urls", [[], ["http://127.0.0.1:1"]], ids=["none", "unreachable"])
def test_a_service_without_a_healthy_instance_is_named(client, settings, kind, urls):
    settings.SERVICE_URLS = {**settings.SERVICE_URLS, kind: urls}
    body = assert_failed(client, kind)
    assert body["checks"][kind]["detail"] == "no instance is healthy"


@pytest.mark.parametrize("said", [*ANSWERS, "hang"])
def test_what_an_instance_says_is_read_kindly_but_not_blindly(client, settings, service, said):
    settings.SERVICE_URLS = {**settings.SERVICE_URLS, "runner": [f"{service}/{said}"]}
    if said in ACCEPTED:
        assert client.get(READY).status_code == 200
    else:
        assert_failed(client, "runner")


@pytest.mark.parametrize("other", ["error", "hang", "garbage"])
def test_one_healthy_instance_is_enough(client, settings, service, other):
    settings.SERVICE_URLS = {**settings.SERVICE_URLS, "runner": [f"{service}/{other}", f"{service}/json-up"]}
    assert client.get(READY).status_code == 200


def test_a_check_that_hangs_is_cut_off_and_holds_one_thread_only(client, monkeypatch):
    released, calls = Event(), []

    def hang():
        calls.append(1)
        released.wait(30)

    monkeypatch.setattr(health, "CHECK_TIMEOUT", 1.0)
    with check_replaced(monkeypatch, "redis", hang):
        body = assert_failed(client, "redis")
        released.set()
    assert body["checks"]["redis"]["detail"] == "does not answer in time"
    assert len(calls) == 1


def test_a_check_is_made_anew_for_who_asks_later(client, monkeypatch):
    calls = []
    with check_replaced(monkeypatch, "redis", lambda: calls.append(1)):
        for _ in range(3):
            assert client.get(READY).status_code == 200
    assert len(calls) == 3


def test_a_check_that_breaks_tells_nothing_of_the_inside(client, monkeypatch):
    def breaks():
        raise RuntimeError("/etc/secret")

    with check_replaced(monkeypatch, "redis", breaks):
        assert "secret" not in str(assert_failed(client, "redis"))
