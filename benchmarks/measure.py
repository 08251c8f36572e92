"""What is measured. Import it once Django is set up."""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import redis
import uvloop
import websockets
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from benchmarks.figures import Burst, Calls, SessionCheck, Single
from benchmarks.load import Connection, Server, at_once, rate
from benchmarks.system import SERVICES, BenchError, System
from commands.models import Command
from commands.states import Status

ROUNDS, WEB_ROUNDS, SINGLE_COMMANDS, AT_ONCE = 3, 9, 30, 200
CHECKS, CHECKS_WARM_UP = 3000, 200
COMMANDS_PATH = "/api/v2/commands"
BODY = {"text": "echo hello"}
USERNAME, PASSWORD = "bench", "only-for-this-run"


def sign_in(system: System) -> Server:
    get_user_model().objects.create_user(USERNAME, "bench@example.com", PASSWORD)
    answer = httpx.post(
        f"http://127.0.0.1:{system.ports['web']}/api/v2/auth/login",
        json={"login": USERNAME, "password": PASSWORD},
        headers={"X-Forwarded-Proto": "https"},
        timeout=10,
    )
    return Server(system.ports["web"], answer.raise_for_status().json()["access"])


def completed_command(system: System, web: Server) -> tuple[str, str]:
    """Return the path of a command that is completed, and the answer to reading it, as JSON."""
    command = at_once(web, web.request("POST", COMMANDS_PATH, BODY), 1)[0]
    wait_until_completed(system, [UUID(command["id"])])
    path = f"{COMMANDS_PATH}/{command['id']}"
    return path, json.dumps(at_once(web, web.request("GET", path), 1)[0])


def wait_until_completed(system: System, ids: list[UUID]) -> list[Command]:
    commands = Command.objects.filter(id__in=ids)
    # Seldom: it takes processor time from those who are at it. When each ended is in the database.
    system.wait_for("commands to end", lambda: not commands.filter(finished_at=None).exists(), 300, every=0.5)
    if commands.exclude(status=Status.COMPLETED).exists():
        raise BenchError("Not every command was completed.")
    return list(commands)


# --- The whole system -----------------------------------------------------------------------------------------------


def single_commands(system: System, web: Server) -> Single:
    """Send one command after the other, and watch each on the socket until it is completed."""
    return asyncio.run(_single_commands(system.ports["ws"], web))


async def _single_commands(ws_port: int, web: Server) -> Single:
    single, post = Single(), web.request("POST", COMMANDS_PATH, BODY)
    headers = {"Authorization": f"Bearer {web.token}"}
    http = await Connection.open(web)
    async with websockets.connect(f"ws://127.0.0.1:{ws_port}/ws", additional_headers=headers) as ws:
        await ws.recv()
        for _ in range(SINGLE_COMMANDS):
            start = time.perf_counter()
            await ws.send(json.dumps({"type": "ping"}))
            await ws.recv()
            single.pings.append(time.perf_counter() - start)
            start = time.perf_counter()
            command_id = json.loads(await http.ask(post))["id"]
            single.events += await asyncio.wait_for(_watch(ws, command_id), 60)
            single.totals.append(time.perf_counter() - start)
    http.close()
    return single


async def _watch(ws: websockets.ClientConnection, command_id: str) -> list[float]:
    """Wait until the command is completed. Return how long each live event took to come."""
    await ws.send(json.dumps({"type": "subscribe", "payload": {"rooms": [f"command:{command_id}"]}}))
    await ws.recv()
    subscribed_at, seconds, status = datetime.now(UTC), [], ""
    while status != Status.COMPLETED:
        event: dict[str, Any] = json.loads(await ws.recv())["payload"]
        status, at = event["command"]["status"], datetime.fromisoformat(event["at"])
        if status in (Status.FAILED, Status.CANCELLED):
            raise BenchError(f"A command was {status}.")
        if at > subscribed_at:  # earlier ones are replayed
            seconds.append((datetime.now(UTC) - at).total_seconds())
    return seconds


def ask_services_directly(services: dict[str, str]) -> float:
    """Return the seconds that the services themselves take for one command."""
    start = time.perf_counter()
    with httpx.Client() as client:
        segmentation, runner, archive = services.values()
        body: dict[str, Any] = {"command": BODY["text"], "mode": "normal", "persona": "technical_expert"}
        alt = client.post(f"{segmentation}/segment", json=body).json()["alt_file"]
        content = client.get(f"{segmentation}/files/alt/{alt}").json()["content"]
        body = {"altFileId": alt, "altContent": content, "options": {}}
        task = {"id": client.post(f"{runner}/run", json=body).json()["taskId"]}
        while task.get("status") not in ("completed", "failed"):
            task = client.get(f"{runner}/tasks/{task['id']}").json()
        content = client.get(f"{runner}/files/last/{task['lastFileId']}").json()["content"]
        body = {"lastFileId": task["lastFileId"], "lastContent": content, "metadata": {}}
        entry = client.post(f"{archive}/archive", json=body).json()
        while "atlasFileId" not in entry:
            entry = client.get(f"{archive}/archive/{entry['id']}").json()
        client.get(f"{archive}/files/atlas/{entry['atlasFileId']}").raise_for_status()
    return time.perf_counter() - start


def burst(system: System, web: Server) -> Burst:
    """Send AT_ONCE commands at the same time, and wait until the last is completed."""
    before, start = calls_of_services(system), time.perf_counter()
    answers = at_once(web, web.request("POST", COMMANDS_PATH, BODY), AT_ONCE)
    accepted, accepted_at = time.perf_counter() - start, datetime.now(UTC)
    commands = wait_until_completed(system, [UUID(answer["id"]) for answer in answers])
    ends = [command.finished_at for command in commands if command.finished_at]
    each = [(end - command.created_at).total_seconds() for command, end in zip(commands, ends, strict=True)]
    later = sum(end > accepted_at for end in ends)
    rate = later / (max(ends) - accepted_at).total_seconds() if later else 0.0
    return Burst(accepted, rate, each, calls_of_services(system) - before)


def bare_commands(system: System) -> tuple[float, Calls]:
    """Let a bare Celery worker make the same calls for as many commands. Return how many it does per second."""
    from benchmarks.bare_tasks import app, command  # noqa: PLC0415 - it reads the environment

    broker = redis.Redis.from_url(system.given["REDIS_URL"])
    before, start = calls_of_services(system), time.perf_counter()
    with app.producer_or_acquire() as producer:
        for _ in range(AT_ONCE):
            callback_url = f"http://127.0.0.1:{system.ports['bare']}/bare"
            command.apply_async((BODY["text"], system.services, callback_url), producer=producer)
    system.wait_for("bare tasks to be done", lambda: broker.get("bare-tasks-done") == str(AT_ONCE).encode())
    broker.delete("bare-tasks-done")
    return AT_ONCE / (time.perf_counter() - start), calls_of_services(system) - before


def calls_of_services(system: System) -> Calls:
    """Return how often each call of the services was made so far, but for the questions after their health."""
    calls = Calls()
    for name in SERVICES:
        made = httpx.get(f"{system.services[name]}/sandbox/stats", timeout=10).json()["requests"]
        calls.update({f"{name} {call}": count for call, count in made.items() if call != "GET /health"})
    return calls


# --- The web alone --------------------------------------------------------------------------------------------------


def web_rates(system: System, web: Server, command: str) -> dict[str, list[float]]:
    """Return requests per second, round by round: the bare view, reading commands, sending one."""
    bare, post = Server(system.ports["bare"]), web.request("POST", COMMANDS_PATH, BODY)
    unfinished = at_once(web, post, 1)[0]["id"]
    asked = {
        "bare": (bare, bare.request("GET", "/bare")),
        "GET": (web, web.request("GET", command)),
        "GET unfinished": (web, web.request("GET", f"{COMMANDS_PATH}/{unfinished}")),
        "POST": (web, post),
    }
    # In turn and often, so that whatever else runs on the machine disturbs all of them alike.
    rounds = [{name: rate(*what) for name, what in asked.items()} for _ in range(WEB_ROUNDS)]
    return {name: [figures[name] for figures in rounds] for name in asked}


def statements(web: Server, command: str) -> dict[str, int]:
    """Return how many SQL statements a request makes, those that begin and end a transaction too."""
    headers = {"Authorization": f"Bearer {web.token}", "X-Forwarded-Proto": "https"}
    client = Client(headers=headers, SERVER_NAME="127.0.0.1")
    with CaptureQueriesContext(connection) as reading:
        answers = [client.get(command)]
    with CaptureQueriesContext(connection) as sending:
        answers.append(client.post(COMMANDS_PATH, BODY, content_type="application/json"))
    if [answer.status_code for answer in answers] != [200, 201]:
        raise BenchError(f"Statements were not counted: {answers}.")
    return {"GET": len(reading), "POST": len(sending)}


# --- The session check ----------------------------------------------------------------------------------------------


def session_check(system: System, web: Server, command: str) -> SessionCheck:
    """Ask the same process for one view with the check and without, in turn: what disturbs disturbs both alike."""
    system.start_unchecked(web.token)
    return uvloop.run(_ask_in_turn(Server(system.ports["unchecked"], web.token), command))


async def _ask_in_turn(server: Server, command: str) -> SessionCheck:
    paths = command, f"/unchecked{command}"
    seconds: tuple[list[float], list[float]] = [], []
    connection = await Connection.open(server)
    for number in range(CHECKS + CHECKS_WARM_UP):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            await connection.ask(server.request("GET", paths[which]))
            seconds[which].append(time.perf_counter() - start)
    connection.close()
    return SessionCheck(seconds[0][CHECKS_WARM_UP:], seconds[1][CHECKS_WARM_UP:])
