"""Health: alive (this process answers), ready (everything it needs answers), and a summary of both.

An app adds what it knows of with `readiness_check`; this module knows no app.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from celery import shared_task
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

from gateway.api.problems import safe_methods_only

logger = logging.getLogger(__name__)

CHECK_TIMEOUT = 3.0
WORKER_SILENCE_LIMIT = 20.0
TELL_EVERY = 2.0
_HEARTBEAT_KEY = "health:worker-finished-a-task-at:{}"  # of a queue
_told_at: dict[str, float] = {}

Check = Callable[[], None]


class NotReadyError(Exception):
    """What a check raises; its message is shown to whoever asks, so it names no internals."""


class _Runner:
    """Runs one check in a thread of its own. Who asks while it runs waits for that run: what hangs holds one thread."""

    def __init__(self, name: str, check: Check) -> None:
        self._check = check
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"health-{name}")
        self._lock = Lock()
        self._latest: Future[None] | None = None

    def start(self) -> "Future[None]":
        with self._lock:
            if self._latest is None or self._latest.done():
                self._latest = self._executor.submit(self._run)
            return self._latest

    def _run(self) -> None:
        try:
            self._check()
        finally:
            connection.close()


_runners: dict[str, _Runner] = {}


def readiness_check(name: str) -> Callable[[Check], Check]:
    """Register a function that raises NotReadyError if this part cannot do its work."""

    def register(check: Check) -> Check:
        _runners[name] = _Runner(name, check)
        return check

    return register


@readiness_check("database")
def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@readiness_check("redis")
def _redis() -> None:
    cache.set("health:probe", 1, timeout=60)
    if cache.get("health:probe") != 1:
        raise NotReadyError("does not keep what is written")


@shared_task(name="gateway.health.worker_heartbeat")
def worker_heartbeat(queue: str = "control") -> None:
    """Run in every queue every few seconds: a worker that answers pings but finishes no task is not alive."""
    cache.set(_HEARTBEAT_KEY.format(queue), time.time(), timeout=3600)


def worker_works(queue: str) -> None:
    """A worker of the queue has finished a task: as good as a heartbeat, which waits where there is much to do."""
    now = time.monotonic()
    if now - _told_at.get(queue, -TELL_EVERY) >= TELL_EVERY:
        _told_at[queue] = now
        worker_heartbeat(queue)


def heard_of_workers(queue: str) -> datetime | None:
    """Return when a worker of the queue was heard of last, None if it is longer ago than an hour, or Redis is away."""
    told_at = cache.get(_HEARTBEAT_KEY.format(queue))
    return None if told_at is None else datetime.fromtimestamp(told_at, UTC)


@readiness_check("worker")
def _worker() -> None:
    keys = {queue.name: _HEARTBEAT_KEY.format(queue.name) for queue in settings.CELERY_TASK_QUEUES}
    finished_at = cache.get_many(keys.values())
    oldest = time.time() - WORKER_SILENCE_LIMIT
    silent = [name for name, key in keys.items() if finished_at.get(key, 0) < oldest]
    if silent:
        raise NotReadyError(f"no worker has finished a task lately: {', '.join(silent)}")


def run_checks() -> dict[str, dict[str, str]]:
    """Run every check side by side, each within CHECK_TIMEOUT seconds, and say how it went."""
    futures = {name: runner.start() for name, runner in _runners.items()}
    wait(futures.values(), timeout=CHECK_TIMEOUT)
    results: dict[str, dict[str, str]] = {}
    for name, future in futures.items():
        error = future.exception() if future.done() else NotReadyError("does not answer in time")
        if error is None:
            results[name] = {"status": "ok"}
        else:
            logger.warning("health check %s failed: %r", name, error)
            detail = str(error) if isinstance(error, NotReadyError) else "does not answer"
            results[name] = {"status": "failed", "detail": detail}
    return results


def _answer(body: dict[str, Any], *, ready: bool) -> HttpResponse:
    response = JsonResponse({"status": "ok" if ready else "unavailable", **body}, status=200 if ready else 503)
    if not ready:
        response["Retry-After"] = "5"
    return response


@never_cache
@safe_methods_only
def live(_request: HttpRequest) -> HttpResponse:
    return _answer({}, ready=True)


@never_cache
@safe_methods_only
def ready(_request: HttpRequest) -> HttpResponse:
    checks = run_checks()
    return _answer({"checks": checks}, ready=all(check["status"] == "ok" for check in checks.values()))


@never_cache
@safe_methods_only
def summary(_request: HttpRequest) -> HttpResponse:
    """Answer 200 while this process lives, with the state of the parts in the body (contract: `GET /health`)."""
    checks = run_checks()
    ok = all(check["status"] == "ok" for check in checks.values())
    return JsonResponse({"status": "ok" if ok else "degraded", "version": settings.VERSION, "checks": checks})
