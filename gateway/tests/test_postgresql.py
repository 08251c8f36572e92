"""Whether a connection is well: with connections of the test's own to a real server."""

import threading
import time

import pytest
from django.db import OperationalError, connection, connections

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="it is about PostgreSQL"),
]


@pytest.fixture
def other():
    other = connection.copy("other")
    other.settings_dict |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}  # as in production
    ask(other, "SELECT 'its last statement'")
    yield other
    other.close()


def ask(whom, statement, *values):
    with whom.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()


def server_process(of):
    return of.connection.info.backend_pid


def last_statement(of):
    return ask(connection, "SELECT query FROM pg_stat_activity WHERE pid = %s", server_process(of))[0]


def test_one_that_is_well_is_not_asked(other):
    assert other.is_usable()
    assert last_statement(other) == "SELECT 'its last statement'"


def test_one_whose_server_hung_up_is_not_usable(other):
    ask(connection, "SELECT pg_terminate_backend(%s, 10000)", server_process(other))
    assert not other.is_usable()


def test_one_with_something_to_read_is_asked_and_is_well(other):
    with other.cursor() as cursor:
        cursor.execute("LISTEN news")
    with connection.cursor() as cursor:
        cursor.execute("NOTIFY news")
        cursor.execute("SELECT 1")
    assert other.is_usable()


def test_before_each_request_one_that_hung_up_is_replaced(other):
    ended = server_process(other)
    ask(connection, "SELECT pg_terminate_backend(%s, 10000)", ended)
    other.close_if_unusable_or_obsolete()  # as Django does when a request begins
    assert ask(other, "SELECT 2") == (2,)
    assert server_process(other) != ended


def test_one_that_broke_during_a_statement_is_replaced_before_the_next_request(other):
    with pytest.raises(OperationalError):
        ask(other, "SELECT pg_terminate_backend(pg_backend_pid())")
    other.close_if_unusable_or_obsolete()
    assert ask(other, "SELECT 2") == (2,)


def test_one_with_a_statement_that_was_given_up_is_replaced_before_the_next_task(other):
    given_up = server_process(other)
    other.connection.pgconn.send_query(b"SELECT pg_sleep(60)")
    other.close_if_unusable_or_obsolete()
    assert ask(other, "SELECT 2") == (2,)
    ask(connection, "SELECT pg_terminate_backend(%s)", given_up)


def test_none_that_was_never_opened_is_usable():
    assert not connection.copy("never").is_usable()


def test_when_a_thread_ends_its_connection_is_closed():
    processes, kept = [], []

    def work():
        ask(connection, "SELECT 1")
        processes.append(server_process(connection))
        kept.append(connections[connection.alias])  # as what waits for the collector does

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert kept[0].connection.closed
    deadline = time.monotonic() + 20
    while ask(connection, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", *processes) != (0,):
        assert time.monotonic() < deadline
