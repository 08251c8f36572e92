"""A PostgreSQL of a drill's own, which may be crashed: nobody else is on it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from gateway.embedded.system import StartError
from tests.drill.system import free_port

START_SECONDS = 60.0
OWNER = "postgres"  # who runs it, where the drill is run by root: PostgreSQL does not run as root


class Cluster:
    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._port = free_port()
        self._user = OWNER if os.getuid() == 0 else None
        self.url = f"postgres://gateway@127.0.0.1:{self._port}/postgres"

    def make(self) -> None:
        if self._user:
            shutil.chown(self._folder, self._user)
        command = [str(self._programs / "initdb"), "--username=gateway", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        command += ["--locale=C.UTF-8", f"--pgdata={self._folder / 'data'}"]
        done = subprocess.run(command, user=self._user, cwd="/", capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise StartError(f"PostgreSQL made no cluster: {done.stderr[-300:]}")

    def start(self) -> None:
        """Start it, and wait until it answers; after a crash, that is when it has recovered. Raises StartError."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": self._folder,
            "fsync": "off",  # the machine does not crash: what a killed process wrote is there
            "max_connections": 200,
        }
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._user, cwd="/", stdout=log, stderr=log)  # noqa: S603
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"PostgreSQL did not start; its log is {self._folder / 'log'}")
            time.sleep(0.05)

    def crash(self) -> None:
        """End it at once, as it ends when one of its processes is killed: without a word to its clients."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def own_cluster() -> Iterator[Cluster | None]:
    """Make and start a cluster that goes at the end; None if no PostgreSQL is installed here."""
    programs = find_programs()
    if programs is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="gateway-drill-postgres-") as folder:
        cluster = Cluster(programs, Path(folder))
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.crash()


def find_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server that is installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None
