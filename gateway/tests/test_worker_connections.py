"""Connections of a worker to the database, with a real one: in this process, on a thread of its own."""

import threading

import pytest
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging, task_postrun
from django.db import connection, connections

from gateway.celery import app

SECONDS = 30
pytestmark = pytest.mark.django_db(transaction=True)


class Seen:
    """The connections that tasks worked with, which are those of the worker's thread."""

    def __init__(self):
        self.connections = []
        self.of_thread = None
        self._done = threading.Semaphore(0)

    def note(self, **_kwargs):
        self.of_thread = connections[connection.alias]
        self.connections.append(self.of_thread.connection)
        self._done.release()

    def after_a_task(self):
        app.send_task("commands.tasks.sweep", queue="control")
        assert self._done.acquire(timeout=SECONDS)
        return self.connections[-1]


@pytest.fixture
def logging_as_it_is():
    """Celery sets up no logging if somebody else does: it would let no warning through in this process any more."""

    def keep(**_kwargs):
        pass

    setup_logging.connect(keep)
    yield
    setup_logging.disconnect(keep)


@pytest.fixture
def seen(monkeypatch, logging_as_it_is):
    as_in_production = {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    for name, value in as_in_production.items():
        monkeypatch.setitem(connections.databases[connection.alias], name, value)
    seen = Seen()
    with start_worker(app, pool="solo", perform_ping_check=False, queues=["control"], shutdown_timeout=SECONDS):
        task_postrun.connect(seen.note)
        yield seen
        task_postrun.disconnect(seen.note)
    if seen.of_thread is not None:
        seen.of_thread.inc_thread_sharing()
        seen.of_thread.close()


def test_a_connection_is_kept_from_task_to_task(seen):
    first = seen.after_a_task()
    assert first is not None
    assert seen.after_a_task() is first


@pytest.mark.skipif(connection.vendor != "postgresql", reason="there is no server that could hang up")
def test_one_whose_server_hung_up_is_replaced_before_the_next_task(seen):
    first = seen.after_a_task()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [first.info.backend_pid])
    second = seen.after_a_task()
    assert second is not first
    assert not second.closed
