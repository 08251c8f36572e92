"""How long it takes to read in a thousand commands and in a million: `make bench ARGS=history`."""

import asyncio
import statistics
import time
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import httpx
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.utils import timezone

from benchmarks.figures import milliseconds
from benchmarks.history_rows import COMMON_WORD, RARE_EVERY, RARE_WORD, SHARES, UNCOMMON_WORD, History
from benchmarks.load import Connection, Server, UnexpectedAnswerError
from benchmarks.system import WORKERS, System, say, scratch_database
from commands.events import flush
from commands.models import Command, Mode
from commands.rollups import commands_roll_up

FEW, MANY = SIZES = (1000, 1_000_000)
REPEATS, WARM_UP = 40, 5
CSV = "CSV, to the first rows"
SECONDS_TO_NOTICE = 0.3  # until the web stops to send a file that nobody reads any more: no other read is to bear it
DEEP = 10_000  # pages
PAGE_ROWS = 25
PASSWORD = "only-for-this-run"  # noqa: S105 - as it says
COMMANDS = "/api/v2/commands"
TARGET = 1.5


@dataclass
class Reading:
    """Seconds of each request, by the number of commands that there are."""

    by_size: dict[int, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """By the quarter of each that was disturbed least: what else runs makes requests longer, and never shorter."""
        few, many = (statistics.quantiles(self.by_size[size])[0] for size in SIZES)
        return many / few


@dataclass
class HistoryFigures:
    readings: dict[str, Reading]
    seconds_to_make: float


def measure(system: System) -> HistoryFigures:
    """Read in a thousand commands and in a million, which are in two databases, in turn: noise disturbs both alike."""
    system.stop(*({"beat", "ws", "web", *WORKERS} & system.children.keys()))
    call_command("collectstatic", interactive=False, verbosity=0)  # the pages of the admin name these files
    people, admin = _people()
    _fill(people, FEW)
    _show_as_many(people[0])
    own = system.given["DATABASE_URL"]
    system.start_web_of("web", own)
    web = Server(system.ports["web"], _token(system.ports["web"]))
    requests = {FEW: _requests(web, people[0], admin)}
    system.stop("web")
    flush()  # the thread that sends news keeps a connection
    connections.close_all()
    # With who is signed in, so that the token and the cookie are good for both.
    with scratch_database(copy_of=urlsplit(own).path[1:]) as copy:
        system.start_web_of("few", copy)
        start = time.perf_counter()
        _fill(people, MANY)
        made = time.perf_counter() - start
        system.start_web_of("many", own)
        requests[MANY] = _requests(web, people[0], admin)
        say("Reading in both ...")
        ports = {FEW: system.ports["few"], MANY: system.ports["many"]}
        readings = asyncio.run(_ask_in_turn({size: Server(port) for size, port in ports.items()}, requests))
        system.stop("few", "many")
    return HistoryFigures(readings, made)


def _fill(people: list[UUID], size: int) -> None:
    say(f"Making {size:,} commands ...")
    History(people, timezone.now()).fill(size)
    commands_roll_up()


def _show_as_many(user_id: UUID) -> None:
    """Let a page of the thousand show as many rows as one of the million: to show one takes longer than to find it."""
    commands = Command.objects.filter(user_id=user_id)
    ids = commands.order_by("id").values_list("id", flat=True)
    there_is_more = PAGE_ROWS + 1
    kinds: list[tuple[int, dict[str, Any]]] = [
        (there_is_more, {"mode": Mode.CHAOS, "tags": ["acil"]}),
        (there_is_more, {"text": f"{UNCOMMON_WORD} {COMMON_WORD}"}),
        (MANY // RARE_EVERY // 2, {"text": RARE_WORD}),
    ]
    for first, (number, values) in enumerate(kinds):
        spread = list(ids[first :: len(ids) // number])[:number]
        commands.filter(id__in=spread).update(**values)


def _people() -> tuple[list[UUID], str]:
    """Make those whose commands these are, whoever has most first. Return their ids, and the cookie of an admin."""
    users = get_user_model().objects
    people = [
        users.create_user(f"person{number}", f"person{number}@example.com", PASSWORD).pk
        for number in range(len(SHARES))
    ]
    browser = Client()
    browser.force_login(users.create_superuser("bench-admin", "bench-admin@example.com", PASSWORD))
    name = settings.SESSION_COOKIE_NAME
    return people, f"{name}={browser.cookies[name].value}"


def _token(port: int) -> str:
    answer = httpx.post(
        f"http://127.0.0.1:{port}/api/v2/auth/login",
        json={"login": "person0", "password": PASSWORD},
        headers={"X-Forwarded-Proto": "https"},
        timeout=10,
    )
    return str(answer.raise_for_status().json()["access"])


def _requests(web: Server, user_id: UUID, admin: str) -> dict[str, bytes]:
    commands = Command.objects.filter(user_id=user_id)
    ids = commands.order_by("-id").values_list("id", flat=True)
    deep = min(DEEP * PAGE_ROWS, commands.count() // 2)
    cursor = b64encode(urlencode({"p": ids[deep]}).encode()).decode()
    whole = commands.filter(atlas_file__isnull=False).order_by("id").values_list("id", flat=True)[0]
    paths = {
        "list, page 1": COMMANDS,
        "list, a page far in": f"{COMMANDS}?{urlencode({'cursor': cursor})}",
        "list, `status=failed,cancelled`": f"{COMMANDS}?status=failed,cancelled",
        "list, `mode=chaos&tag=acil`": f"{COMMANDS}?mode=chaos&tag=acil",
        "search, a common word": f"{COMMANDS}?{urlencode({'q': COMMON_WORD})}",
        f"search, `{UNCOMMON_WORD}`": f"{COMMANDS}?{urlencode({'q': UNCOMMON_WORD})}",
        "search, a rare word": f"{COMMANDS}?{urlencode({'q': RARE_WORD})}",
        "`GET command`": f"{COMMANDS}/{whole}",
        "`GET commands/stats`": f"{COMMANDS}/stats",
    }
    requests = {name: web.request("GET", path) for name, path in paths.items()}
    signed_in = f"Authorization: Bearer {web.token}".encode()
    in_admin = web.request("GET", "/admin/commands/command/").replace(signed_in, f"Cookie: {admin}".encode())
    as_csv = requests["list, page 1"].replace(b"\r\n", b"\r\nAccept: text/csv\r\n", 1)
    return {**requests, "admin, list of commands": in_admin, CSV: as_csv}


async def _ask_in_turn(servers: dict[int, Server], requests: dict[int, dict[str, bytes]]) -> dict[str, Reading]:
    readings = {name: Reading({size: [] for size in SIZES}) for name in requests[FEW]}
    connections = {size: await Connection.open(server) for size, server in servers.items()}
    for number in range(REPEATS + WARM_UP):
        for name, reading in readings.items():
            for size in SIZES if number % 2 else reversed(SIZES):
                request, start = requests[size][name], time.perf_counter()
                if name == CSV:
                    await _first_rows(servers[size], request)
                else:
                    await connections[size].ask(request)
                if number >= WARM_UP:
                    reading.by_size[size].append(time.perf_counter() - start)
                if name == CSV:
                    await asyncio.sleep(SECONDS_TO_NOTICE)
    for each in connections.values():
        each.close()
    return readings


async def _first_rows(server: Server, request: bytes) -> None:
    """Wait until a file has begun to come: the names of its columns and some rows."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    if b"text/csv" not in await reader.readuntil(b"\r\n\r\n"):
        raise UnexpectedAnswerError("There is no CSV.")
    await reader.readexactly(4000)
    writer.close()


def print_history(figures: HistoryFigures) -> None:
    """Print Markdown, as benchmarks.figures does."""
    rows = [("read", *(f"of {size:,}" for size in SIZES), "ratio"), ("-" * 32, *["-" * 11 + ":"] * 2, "-" * 20)]
    for name, reading in figures.readings.items():
        missed = "" if reading.ratio <= TARGET else " (target missed)"
        rows.append(
            (name, *(milliseconds(reading.by_size[size], 50) for size in SIZES), f"{reading.ratio:.2f}{missed}")
        )
    for name, *times, ratio in rows:
        print(f"| {name:32} | {' | '.join(f'{each:>12}' for each in times)} | {ratio:20} |")
    print(f"\n{MANY:,} commands were made and rolled up in {figures.seconds_to_make:.0f} s.")
