"""A failure drill: `make drill`. Commands run all the while, and everything goes wrong, one thing after the other.

At the end it compares what was accepted with what became of it, and with what the services did by their own account.
The exit code is 1 if a command was lost, done twice or wrong, if the system did not heal, or if a fault was met by
nobody; never because of timing.
"""

import argparse
import asyncio
import os
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random

from benchmarks.system import ignore_signals, scratch_database
from gateway.embedded.children import stop
from tests.drill.client import seconds
from tests.drill.faults import FAULTS, Fault, Scene
from tests.drill.load import Load
from tests.drill.patience import Patience, say, until_quiet
from tests.drill.program import run_in_folder, seed_argument
from tests.drill.system import SERVICE_TIMEOUT, DrillSystem
from tests.drill.verdict import Event, Verdict, healing, judge

FULL_MINUTES = 3.0
WINDOW_SECONDS_PER_MINUTE = 8.0  # of trying a stage again: also in the short form, commands give up while all is away


def main() -> None:
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES, help="roughly; 0.75 is the short form")
    parser.add_argument("--rate", type=float, default=2.0, help="commands per second")
    seed_argument(parser)
    run_in_folder(drill, parser.parse_args(), "drill")


def drill(arguments: argparse.Namespace, folder: Path) -> bool:
    with ExitStack() as stack:
        database = "PostgreSQL" if os.environ.get("DATABASE_URL") else "SQLite"
        database_url = stack.enter_context(scratch_database()) if database == "PostgreSQL" else None
        say(f"Drill of about {arguments.minutes:g} min on {database}, {arguments.rate:g} commands/s.")
        say(f"Seed {arguments.seed}")
        say("Starting the system: web, worker, beat, Redis, two instances of each service ...")
        system = DrillSystem(folder, database_url, arguments.minutes * WINDOW_SECONDS_PER_MINUTE)
        stack.callback(lambda: stop(reversed(system.children)))
        stack.callback(ignore_signals)
        stack.enter_context(system.running())
        return asyncio.run(run(system, arguments))


async def run(system: DrillSystem, arguments: argparse.Namespace) -> bool:
    began = time.monotonic()
    load = Load(system.address, arguments.rate)
    await load.sign_in()
    going_on = asyncio.create_task(load.go_on())
    try:
        scene = Scene(system, Random(arguments.seed))  # noqa: S311 - no secret
        events = await let_go_wrong(scene, load, arguments.minutes)
        await load.stop()
        await going_on
        say("Waiting for quiet ...")
        await until_quiet(load)
        verdict, commands = await judge(load, system, events)
        verdict.not_healed += system.ended()
        verdict.not_applied += [
            f"no command gave up while {kind} was away"
            for kind in scene.gives_up
            if not verdict.failed.keys() & {f"{kind}_{why}" for why in ("unavailable", "left_alone", "timeout")}
        ]
    finally:
        going_on.cancel()
        await load.close()
    report(verdict, healing(events, commands), system.retry_window)
    healed = [(event.healed - event.ended, event.name) for event in events if event.healed is not None]
    took, what = max(healed, default=(0.0, "nothing"))
    say(f"longest time to heal    {took:.1f} s, after: {what}")
    say(f"took                    {time.monotonic() - began:.0f} s")
    return verdict.is_good


async def let_go_wrong(scene: Scene, load: Load, minutes: float) -> list[Event]:
    """Let every fault happen, each after the one before has healed."""
    events = []
    for fault in scene.dice.sample(FAULTS, len(FAULTS)):
        lasts = fault.seconds * minutes / FULL_MINUTES
        say(f"{time.strftime('%H:%M:%S')}  {fault.name} ({lasts:.1f} s) ...")
        event = await let_happen(fault, scene, load, lasts)
        events.append(event)
        if event.hits:
            say(f"          requests that were hit: {event.hits_line()}")
        state = "did NOT heal" if event.healed is None else f"healed after {event.healed - event.ended:.1f} s"
        say(f"          {state}; accepted {len(load.accepted)}, unfinished {await load.unfinished()}")
        if event.healed is None or scene.system.ended():
            break  # what comes now says nothing any more, and might start again what died
    return events


async def let_happen(fault: Fault, scene: Scene, load: Load, lasts: float) -> Event:
    scene.hits = {}
    began = time.time()
    try:
        await fault.happen(scene, lasts)
    except TimeoutError:
        say("          a part did not end, or does not answer")
        return Event(fault.name, began, time.time(), None)
    ended = time.time()
    return Event(fault.name, began, ended, await first_completed(load, ended), scene.hits)


async def first_completed(load: Load, since: float) -> float | None:
    """Return when the first command that was sent since then was completed; None if that does not happen."""
    patience = Patience(load)
    while await patience.lasts():
        command = await load.newest_completed()
        if command and seconds(command["created_at"]) >= since:
            return seconds(command["finished_at"])
        await asyncio.sleep(0.1)
    return None


def report(verdict: Verdict, lines: list[str], retry_window: float) -> None:
    say("")
    say("fault     healed    backlog")
    for line in lines:
        say(line)
    say("healed: from the end of the fault until a command that was sent after it was completed.")
    say("backlog: from there until the last of those that were sent during the fault (their number) had ended.")
    say(f"A call of a service has {SERVICE_TIMEOUT} s, a stage is tried again for {retry_window:g} s.")
    say("")
    for line in verdict.lines():
        say(line)


if __name__ == "__main__":
    main()
