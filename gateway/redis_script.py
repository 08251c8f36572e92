"""Lua scripts: redis-py's own, each made once, and run by whichever client has the connection."""

from collections.abc import Iterable
from typing import Any, cast

from redis.commands.core import Script as RegisteredScript


class Script:
    """Lua that Redis runs as one, with nothing in between, in one round trip."""

    def __init__(self, source: str) -> None:
        # Without a client: one comes with every call. Bytes, as it would ask the client how to encode a text.
        self._script = RegisteredScript(cast("Any", None), source.encode())

    def __call__(self, client: Any, keys: Iterable[str], *values: Any) -> Any:
        """Run it. A Redis that does not know it yet is told. Raises RedisError."""
        return self._script(keys=list(keys), args=values, client=client)
