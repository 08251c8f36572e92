"""Django's backend for PostgreSQL, for threads that keep a connection of their own."""

import os
import select
import threading
from typing import Any

from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        if self.pool is None:
            setattr(_of_thread, self.alias, _ClosedAtTheEnd(connection))
        return connection

    def is_usable(self) -> bool:
        """Look if the server has hung up, which a server that ends or drops a connection does.

        Before each request, `CONN_HEALTH_CHECKS` asks. Nobody speaks on a connection that waits for a statement. So if
        there is nothing to read, it is as it was; if there is, Django asks the server, as always. One with a statement
        that was given up (a task's time was over) is of no use, and says nothing either.
        """
        if self.connection is None or self.connection.closed:
            return False
        if self.connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
            return False
        waiting = select.poll()
        waiting.register(self.connection.fileno(), select.POLLIN)
        return super().is_usable() if waiting.poll(0) else True


class _ClosedAtTheEnd:
    """Closes a connection when its thread ends: a web server lets idle ones go. Django leaves it to the collector."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._pid = connection, os.getpid()

    def __del__(self) -> None:
        if self._pid == os.getpid():  # in a child process it is the parent's
            self._connection.close()


_of_thread = threading.local()
