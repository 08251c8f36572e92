"""What the session check costs: `GET command` with it, and the same view in the same process without it.

By itself: `python -m benchmarks.session_check`.
"""

import statistics
import sys
import time
from pathlib import Path

import uvloop

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.load import Connection, Server
from benchmarks.system import System, _free_port, command_of, interrupt_on_signals, running_system

ROLE = "session check"
PAIRS, WARM_UP = 3000, 200
LIMIT = 1.15  # how much longer a request may take with the check


def start_session_check(system: System, token: str) -> None:
    """Start a web process that has both views."""
    system.ports[ROLE] = _free_port()
    system.given["UNCHECKED_TOKEN"] = token
    words = [word.replace("gateway.wsgi", "benchmarks.session_check_app") for word in command_of("web")]
    system._start(ROLE, [*words, *system._address(ROLE), "--workers", "1"], like="web")  # noqa: SLF001 - one bench
    system.wait_for("both views", lambda: system._answers(ROLE))  # noqa: SLF001 - the same


def session_check_seconds(system: System, web: Server, command: str) -> tuple[list[float], list[float]]:
    """Return how long each request took with the check and without it. `command` is the path of one."""
    return uvloop.run(_ask_in_turn(Server(system.ports[ROLE], web.token), command))


async def _ask_in_turn(server: Server, command: str) -> tuple[list[float], list[float]]:
    """Ask for one after the other, so that whatever else runs on the machine disturbs both alike."""
    paths = command, f"/unchecked{command}"
    seconds: tuple[list[float], list[float]] = [], []
    connection = await Connection.open(server)
    for number in range(PAIRS + WARM_UP):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            await connection.ask(server.request("GET", paths[which]))
            seconds[which].append(time.perf_counter() - start)
    connection.close()
    return seconds[0][WARM_UP:], seconds[1][WARM_UP:]


def slowdown(with_check: list[float], without: list[float]) -> float:
    """Return how many times as long a request takes with the check.

    By the quarter of each that was disturbed least: what else runs makes requests longer, and never shorter.
    """
    return statistics.quantiles(with_check)[0] / statistics.quantiles(without)[0]


def main() -> None:
    interrupt_on_signals()
    with running_system() as system:
        from benchmarks import measure  # noqa: PLC0415 - it imports models, for which Django must have been set up

        web = measure.sign_in(system)
        command, _answer = measure.completed_command(system, web)
        system.stop("beat", "worker", "ws", "web")
        start_session_check(system, web.token)
        seconds = session_check_seconds(system, web, command)
    for percent, index in ((25, 0), (50, 1), (75, 2)):
        checked, bare = (1000 * statistics.quantiles(each)[index] for each in seconds)
        print(f"p{percent}: {checked:.2f} ms with the check, {bare:.2f} ms without: {checked / bare:.3f}")
    print(f"A request takes {slowdown(*seconds):.3f} times as long with the check; {LIMIT} is the limit.")


if __name__ == "__main__":
    main()
