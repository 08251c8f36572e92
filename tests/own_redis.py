"""A Redis that a test may stop, freeze and start again."""

import signal
import subprocess
import time
from pathlib import Path

from gateway.embedded.redis import answers, find_redis_server, write_config

START_SECONDS = 20


class OwnRedis:
    def __init__(self, folder: Path) -> None:
        self._config = folder / "redis.conf"
        self.url = write_config(self._config)
        self.start()

    def start(self) -> None:
        server = find_redis_server()
        assert server is not None
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [server, str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.url):
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it hang: connections are taken, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)
