"""Measures the production system on PostgreSQL and Redis, and prints a table: `make bench`, docs/performance.md.

`python -m benchmarks.run history` measures reading in a thousand and in a million commands alone.

Limits are what the machine gives in the same run, under the same noise. The ratios therefore say more than the figures.
"""

import os
import sys
from datetime import UTC, datetime

import psycopg
import redis

from benchmarks.figures import Figures, print_table
from benchmarks.load import UnexpectedAnswerError
from benchmarks.system import WORKERS, BenchError, System, interrupt_on_signals, option, running_system, say

HISTORY = "history"


def measure_all(system: System) -> Figures:
    from benchmarks import measure, services  # noqa: PLC0415 - they import models, for which Django must have been set up

    web = measure.sign_in(system)
    command, answer = measure.completed_command(system, web)
    system.start_limits(answer)
    say("Measuring one command after the other ...")
    direct = [measure.ask_services_directly(system.services) for _ in range(measure.SINGLE_COMMANDS)]
    single = measure.single_commands(system, web)
    bursts, bare_commands = [], []
    for number in range(1, measure.ROUNDS + 1):
        say(f"Measuring {measure.AT_ONCE} commands at once, round {number} of {measure.ROUNDS} ...")
        bursts.append(measure.burst(system, web))
        bare_commands.append(measure.bare_commands(system))
    say("Measuring the web alone ...")
    # From here on nobody takes up the commands that are sent.
    system.stop("beat", *WORKERS, "bare worker")
    rates = measure.web_rates(system, web, command)
    statements = measure.statements(web, command)
    say("Measuring what the session check costs ...")
    system.stop("ws", "web", "bare")
    session_check = measure.session_check(system, web, command)
    say("Measuring calls of the services ...")
    system.stop("unchecked")
    client, balance = services.client_cost(system), services.balance(system)
    return Figures(direct, single, bursts, bare_commands, rates, statements, session_check, client, balance)


def measure_history(system: System) -> None:
    from benchmarks import history  # noqa: PLC0415 - as above

    print()
    history.print_history(history.measure(system))


def print_circumstances(system: System, load: float) -> None:
    """Print what a figure means nothing without."""
    with psycopg.connect(system.given["DATABASE_URL"]) as connection:
        postgres = str(connection.info.parameter_status("server_version")).split()[0]
    redis_server = redis.Redis.from_url(system.given["REDIS_URL"]).info("server")["redis_version"]
    threads = option("web", "--blocking-threads")
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {os.cpu_count()} cores, PostgreSQL {postgres}, Redis {redis_server}"
    )
    print(f"web: 1 process of {threads} threads (granian); ws: 1 (uvicorn); beat: 1")
    print(f"workers: 1 process for each of {len(WORKERS)} queues (celery)")
    print("services: 3 stand-ins; and one process that asks. All of them share the machine.")
    print(f"Load of the machine before the run: {load:.1f}. Whatever else runs disturbs the figures.\n", flush=True)


def main() -> None:
    if sys.argv[1:] not in ([], [HISTORY]):
        sys.exit(f"There is no such part: give none, for all of them, or {HISTORY}.")
    interrupt_on_signals()
    load = os.getloadavg()[0]
    try:
        with running_system() as system:
            print_circumstances(system, load)
            if sys.argv[1:] != [HISTORY]:
                print_table(measure_all(system))
            measure_history(system)
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell has it for Ctrl-C
    except (BenchError, UnexpectedAnswerError) as error:
        sys.exit(f"Nothing was measured: {error}")


if __name__ == "__main__":
    main()
