"""What a call of a service costs beside a bare one, and how evenly calls are spread. Import it late, as `measure`."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests  # noqa: TID251 - it is what the client is measured beside

from benchmarks.figures import Balance, ClientCost
from benchmarks.system import BenchError, System
from integrations.clients.http import call

CALLS, CALLS_WARM_UP = 3000, 200
INSTANCES, CALLERS, CALLS_OF_EACH = 3, 4, 300


def client_cost(system: System) -> ClientCost:
    """Ask a stand-in for the same thing by the client and by a bare session, in turn: what disturbs disturbs both."""
    base_url = system.services["segmentation"]
    body = {"command": "echo hello", "mode": "normal", "persona": "technical_expert"}
    work = requests.post(f"{base_url}/segment", json=body, timeout=10).json()
    url, session = f"{base_url}/segment/{work['id']}", requests.Session()

    def bare() -> Any:
        answer = session.get(url, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def own() -> Any:
        return call("GET", url, base_url=base_url)

    if own() != bare():
        raise BenchError("The client and the bare session got different answers.")
    cost = ClientCost([], [])
    for number in range(CALLS + CALLS_WARM_UP):
        for ask, seconds in (
            ((bare, cost.bare), (own, cost.own)) if number % 2 else ((own, cost.own), (bare, cost.bare))
        ):
            seconds.append(_seconds_of(ask))
    return ClientCost(cost.own[CALLS_WARM_UP:], cost.bare[CALLS_WARM_UP:])


def _seconds_of(ask: Callable[[], Any]) -> float:
    start = time.perf_counter()
    ask()
    return time.perf_counter() - start


def balance(system: System) -> Balance:
    """Let several processes choose and call at the same time. Return how often each instance was called."""
    urls = [system.services["segmentation"], *(system.start_service() for _ in range(INSTANCES - 1))]
    env = system.env_of("worker-segmentation") | {"SEGMENTATION_URLS": ",".join(urls)}
    command = [sys.executable, "-m", "benchmarks.callers", str(CALLS_OF_EACH)]
    callers: list[Any] = [
        subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
        for _ in range(CALLERS)
    ]
    try:
        for caller in callers:
            caller.stdout.readline()  # it is ready
        for caller in callers:
            caller.stdin.write("\n")
            caller.stdin.flush()
        said = [caller.communicate(timeout=120)[0] for caller in callers]
    finally:
        for caller in callers:
            caller.kill()
            caller.wait()
    called = sum((Counter(json.loads(each or "{}")) for each in said), Counter[str]())
    if called.total() != CALLERS * CALLS_OF_EACH:
        raise BenchError(f"The callers made {called.total()} calls.")
    return Balance([called[url] for url in urls])
