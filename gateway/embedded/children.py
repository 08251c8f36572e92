"""Child processes: started so that they cannot outlive the supervisor, watched, and stopped in order."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

STOP_SECONDS = 10.0
LOG_LIMIT_BYTES = 10 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


class Child:
    """One child with its log file."""

    def __init__(self, name: str, command: list[str], *, env: dict[str, str], log: Path, fd: int | None = None) -> None:
        self.name = name
        self.log = log
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=() if fd is None else (fd,),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops all in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - the supervisor has no threads
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def terminate(self) -> None:
        if self.exit_code is None:
            self._process.terminate()

    def wait_or_kill(self, deadline: float) -> None:
        try:
            self._process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def stop(children: Iterable[Child]) -> None:
    """Stop them one after the other, with a common deadline after which the rest are killed."""
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        child.terminate()
        child.wait_or_kill(deadline)


def _die_with_parent() -> None:
    """On Linux: get a SIGTERM when the supervisor dies, even by a SIGKILL that it cannot pass on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
