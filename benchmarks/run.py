"""Measures a gateway started by this script, each figure beside a limit measured in the same run: `make bench`.

The limits are what the machine gives, under the same noise: an endpoint that does nothing, tasks that do nothing, the
services asked directly. The ratios therefore say more than the figures. Everything shares the machine, this script too.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import redis
import websockets
from celery import Celery

ROOT = Path(__file__).resolve().parent.parent
SECONDS, CLIENTS = 3.0, 8
SINGLE_COMMANDS, NO_OP_TASKS = 30, 1000
PASSWORD = "only-for-this-run"  # noqa: S105 - of a system that ends with it
TEXT = "echo hello"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(env: dict[str, str], *module: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", *module]
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def system() -> Iterator["Bench"]:
    """Start the services here, since they are asked directly too, and the gateway with them."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder, ExitStack() as stack:
        env = os.environ | {"PORT": str(free_port()), "DATA_DIR": folder, "DEMO_PASSWORD": PASSWORD}
        services = {name: f"http://127.0.0.1:{free_port()}" for name in ("segmentation", "runner", "archive")}
        for name, url in services.items():
            port = url.rpartition(":")[2]
            stack.enter_context(running(env, "integrations.sandbox", name, "--port", port, "--state-dir", folder))
            env[f"{name.upper()}_URLS"] = url
        gateway = stack.enter_context(running(env, "gateway.embedded"))
        if not any(line.startswith("Ready.") for line in gateway.stdout or ()):
            sys.exit("the gateway did not start")
        yield Bench(f"127.0.0.1:{env['PORT']}", services, Path(folder))


class Bench:
    def __init__(self, address: str, services: dict[str, str], folder: Path) -> None:
        self.address, self.services, self.folder = address, services, folder
        self.http = httpx.Client(base_url=f"http://{address}", timeout=60)
        login = self.http.post("/api/v2/auth/login", json={"login": "demo", "password": PASSWORD}).raise_for_status()
        self.token = login.json()["access"]
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def submit(self) -> str:
        return str(self.http.post("/api/v2/commands", json={"text": TEXT}).raise_for_status().json()["id"])

    def rate(self, method: str, path: str, body: str = "") -> float:
        """Return the answers per second to CLIENTS connections that ask one request after the other."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.address}\r\nAuthorization: Bearer {self.token}\r\n"
        request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

        async def side_by_side() -> list[int]:
            return await asyncio.gather(*(self._ask_again_and_again(request) for _ in range(CLIENTS)))

        return sum(asyncio.run(side_by_side())) / SECONDS

    async def _ask_again_and_again(self, request: bytes) -> int:
        """Speak plain HTTP: a client library would cost more than the server."""
        reader, writer = await asyncio.open_connection(*self.address.split(":"))
        answers, until = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 20"):
                sys.exit(f"unexpected answer: {head.decode()}")
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            answers += 1
        writer.close()
        return answers

    async def watch_single_commands(self) -> tuple[list[float], list[float], list[float]]:
        """Return seconds: from POST to `completed`; from an event to its arrival; of a ping on the same socket."""
        totals, events, pings = [], [], []
        headers = {"Authorization": f"Bearer {self.token}"}
        async with websockets.connect(f"ws://{self.address}/ws", additional_headers=headers) as ws:
            await ws.recv()
            for _ in range(SINGLE_COMMANDS):
                start = time.perf_counter()
                await ws.send(json.dumps({"type": "ping"}))
                await ws.recv()
                pings.append(time.perf_counter() - start)

                start, status = time.perf_counter(), ""
                room = f"command:{await asyncio.to_thread(self.submit)}"
                await ws.send(json.dumps({"type": "subscribe", "payload": {"rooms": [room]}}))
                await ws.recv()
                subscribed_at = datetime.now(UTC)
                while status not in ("completed", "failed"):
                    payload = json.loads(await ws.recv())["payload"]
                    status, at = payload["command"]["status"], datetime.fromisoformat(payload["at"])
                    if at > subscribed_at:
                        events.append((datetime.now(UTC) - at).total_seconds())
                totals.append(time.perf_counter() - start)
        return totals, events, pings

    def ask_services_directly(self) -> float:
        """Return the seconds that the services themselves take for one command."""
        start = time.perf_counter()
        with httpx.Client() as client:
            segmentation, runner, archive = self.services.values()
            body: dict[str, Any] = {"command": TEXT, "mode": "normal", "persona": "technical_expert"}
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

    def flood(self) -> tuple[float, float]:
        """Return the commands per second that are taken in, and that are completed, until none is left."""
        start = time.perf_counter()
        taken_in = self.rate("POST", "/api/v2/commands", json.dumps({"text": TEXT}))
        unfinished = "/api/v2/commands?status=queued,segmenting,running,archiving&limit=1"
        while self.http.get(unfinished).raise_for_status().json()["results"]:
            time.sleep(0.05)
        return taken_in, taken_in * SECONDS / (time.perf_counter() - start)

    def no_op_tasks(self) -> float:
        url = (self.folder / "redis_url").read_text()
        app, broker = Celery(broker=url), redis.Redis.from_url(url)
        start = time.perf_counter()
        for _ in range(NO_OP_TASKS):
            app.send_task("gateway.health.worker_heartbeat", queue="control")
        while broker.llen("control"):
            time.sleep(0.01)
        return NO_OP_TASKS / (time.perf_counter() - start)


def tell(what: str, figure: float, unit: str, limit: float | None = None, of: str = "") -> None:
    ratio = "" if limit is None else f"{figure / limit:10.2f} x {of}"
    print(f"{what:38}{figure:8.1f} {unit:4}{ratio}", flush=True)


def tell_seconds(what: str, seconds: list[float], limit: float | None = None, of: str = "") -> None:
    for percent in (50, 95):
        tell(f"{what}, p{percent}", 1000 * statistics.quantiles(seconds, n=100)[percent - 1], "ms", limit, of)


def main() -> None:
    with system() as bench:
        directly = [bench.ask_services_directly() for _ in range(SINGLE_COMMANDS)]
        totals, events, pings = asyncio.run(bench.watch_single_commands())
        tell_seconds("the three services, asked directly", directly)
        tell_seconds("POST to completed, idle", totals, 1000 * statistics.median(directly), "the services' median")
        tell_seconds("ping on the socket", pings)
        tell_seconds("event from commit to client", events, 1000 * statistics.median(pings), "the ping's median")
        nothing = bench.rate("GET", "/health/live")
        tell("GET /health/live", nothing, "/s")
        reading = bench.rate("GET", f"/api/v2/commands/{bench.submit()}")
        tell("GET a command", reading, "/s", nothing, "/health/live")
        tasks = bench.no_op_tasks()
        tell("tasks that do nothing", tasks, "/s")
        taken_in, completed = bench.flood()
        tell("POST a command, workers busy", taken_in, "/s", nothing, "/health/live")
        tell("commands completed, many at once", completed, "/s", tasks, "no-op tasks")


if __name__ == "__main__":
    main()
