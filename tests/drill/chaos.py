"""`make chaos`: several people send commands while anything is killed at any moment, and services misbehave.

It ends with 1 if a promise was broken: by what the database, the API, sockets and the services' own journals say.
Never because of timing. A seed gives the same commands and the same blows again; how they meet is up to the machine.
"""

import argparse
import asyncio
import os
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks.system import ignore_signals, scratch_database
from gateway.embedded.children import stop
from tests.drill.blows import Blows
from tests.drill.cluster import Cluster, own_cluster
from tests.drill.crowd import Crowd
from tests.drill.ears import Ear
from tests.drill.outcome import Outcome, in_system, outcome_of
from tests.drill.patience import STANDSTILL_SECONDS, say, until_quiet
from tests.drill.plan import USERS, Plan, plan_of
from tests.drill.program import run_in_folder, seed_argument
from tests.drill.system import DrillSystem

RETRY_WINDOW = 15.0  # seconds: some commands give up, and no cancellation waits for ever

MISLED_AT_LEAST = 0.1  # of what could be: many a service is killed, or gets no request, before it has misled as many


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--commands", type=int, default=500, help="how many; 100 is the short form")
    parser.add_argument("--rate", type=float, default=2.5, help="commands per second")
    parser.add_argument("--gap", type=float, default=2.5, help="seconds between two blows, on average")
    parser.add_argument("--database", choices=("own", "sqlite"), default="own", help="if DATABASE_URL names no other")
    seed_argument(parser)
    run_in_folder(chaos, parser.parse_args(), "chaos")


def chaos(arguments: argparse.Namespace, folder: Path) -> bool:
    with ExitStack() as stack:
        cluster, url = _database(stack, arguments.database)
        plan = plan_of(
            arguments.seed,
            commands=arguments.commands,
            rate=arguments.rate,
            gap=arguments.gap,
            has_own_database=cluster is not None,
        )
        where = "a PostgreSQL of its own" if cluster else "PostgreSQL" if url else "SQLite"
        say(f"Chaos: {len(plan.orders)} commands of {len(USERS)} users, {len(plan.blows)} blows, on {where}.")
        say(f"Seed {arguments.seed}")
        system = DrillSystem(folder, url, RETRY_WINDOW)
        stack.callback(lambda: stop(reversed(system.children)))
        stack.callback(ignore_signals)
        stack.enter_context(system.running())
        in_system(system.env, "make_people")
        return asyncio.run(_run(system, Blows(system, cluster, url, arguments.seed), plan, arguments.seed))


def _database(stack: ExitStack, wanted: str) -> tuple[Cluster | None, str | None]:
    """Return a cluster that may be crashed, if one can be had, and the URL of the database, if it is not SQLite."""
    if os.environ.get("DATABASE_URL"):
        return None, stack.enter_context(scratch_database())
    cluster = stack.enter_context(own_cluster()) if wanted == "own" else None
    return cluster, cluster.url if cluster else None


async def _run(system: DrillSystem, blows: Blows, plan: Plan, seed: int) -> bool:
    began = time.monotonic()
    crowd = Crowd(system.address)
    await crowd.sign_in()
    ears = [Ear(crowd, user, seed + user) for user in range(len(USERS))]
    listening = [asyncio.create_task(ear.listen()) for ear in ears]
    try:
        sending = asyncio.create_task(crowd.send(plan.orders, time.monotonic()))
        await blows.fall(plan.blows, time.monotonic())
        await sending
        say(f"Sent and struck after {time.monotonic() - began:.0f} s. Waiting for quiet ...")
        await until_quiet(crowd)
        await _until_heard(ears)
        outcome = await outcome_of(crowd, system, ears)
        outcome.not_healed = system.ended()
    finally:
        for task in listening:
            task.cancel()
        await crowd.close()
    outcome.not_applied = not_applied(plan, blows.hits)
    _report(outcome, blows, sum(ear.connections for ear in ears), crowd.too_late)
    say(f"took {time.monotonic() - began:.0f} s")
    return outcome.is_good


def not_applied(plan: Plan, hits: Counter[str]) -> list[str]:
    """Return that hardly any request was misled, if it is so: then nothing is known of what services may do."""
    wanted = round(plan.misled * MISLED_AT_LEAST)
    return [f"{hits.total()} requests were misled, and {wanted} ought to be"] if hits.total() < wanted else []


async def _until_heard(ears: list[Ear]) -> None:
    """Wait until the sockets have told of every end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STANDSTILL_SECONDS):
            while any(ear.is_waiting() for ear in ears):  # noqa: ASYNC110 - what they hear has no events
                await asyncio.sleep(0.1)


def _report(outcome: Outcome, blows: Blows, connections: int, too_late: int) -> None:
    def counted(what: Counter[str]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(what.items())) or "nothing"

    say(f"blows: {counted(blows.fallen)}")
    say(f"killed: {counted(blows.killed)}")
    say(f"requests that were misled: {counted(blows.hits)}")
    say(f"sockets opened: {connections}")
    say(f"not accepted, as their deadline had passed: {too_late}")
    say("")
    for line in outcome.lines():
        say(line)


if __name__ == "__main__":
    main()
