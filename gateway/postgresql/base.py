"""Django's backend for PostgreSQL; only whether a connection is well is found out without asking the server."""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self) -> bool:
        """Look if the server has hung up, which a server that ends or drops a connection does.

        Before each request, `CONN_HEALTH_CHECKS` asks. Nobody speaks on a connection that waits for a statement. So if
        there is nothing to read, it is as it was; if there is, Django asks the server, as always.
        """
        if self.connection is None:
            return False
        waiting = select.poll()
        waiting.register(self.connection.fileno(), select.POLLIN)
        return super().is_usable() if waiting.poll(0) else True
