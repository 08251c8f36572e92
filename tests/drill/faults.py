"""What goes wrong in a drill, one after the other. Each fault has ended when its function returns."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from gateway.embedded.system import QUEUES, SERVICES
from tests.drill.system import INSTANCES, SERVICE_TIMEOUT, DrillSystem

SUBMISSION = {"segmentation": "/segment", "runner": "/run", "archive": "/archive"}
MORE_SECONDS = 45.0  # at most, until an instance is met: what is ill from the fault before gets no calls for a while
UNTIL_TIMEOUT = SERVICE_TIMEOUT + 1.0


@dataclass
class Scene:
    """Where it happens, and the dice that say to whom."""

    system: DrillSystem
    dice: Random
    hits: dict[str, list[int]] = field(default_factory=dict)  # by instance: how often each fault acted on a request
    gives_up: set[str] = field(default_factory=set)  # services that were away for so long that commands must fail

    def one_of_each(self) -> list[str]:
        return [f"{kind}-{self.dice.choice(INSTANCES)}" for kind in SERVICES]

    def all(self) -> list[str]:
        return list(self.system.instances)

    async def misbehave(self, names: list[str], seconds: float, *faults: dict[str, Any], after_hit: float = 0) -> None:
        """Switch faults on at instances, as integrations/sandbox/README.md describes them, for some time.

        Each instance goes on until it has met requests with all of them, and `after_hit` seconds longer. By itself:
        while a service refuses all, nothing comes to those after it.
        """
        async with httpx.AsyncClient(timeout=10) as client:
            for name in names:
                address = f"{self.system.instances[name]}/sandbox/faults"
                (await client.put(address, json={"faults": list(faults)})).raise_for_status()
            await asyncio.gather(*(self._until_hit(client, name, seconds, after_hit) for name in names))

    async def _until_hit(self, client: httpx.AsyncClient, name: str, seconds: float, after_hit: float) -> None:
        address = f"{self.system.instances[name]}/sandbox"
        now = time.monotonic()
        ends_at, gives_up_at, is_hit = now + seconds, now + seconds + MORE_SECONDS, False
        while now < ends_at or (not is_hit and now < gives_up_at):
            await asyncio.sleep(0.1)
            self.hits[name] = (await client.get(f"{address}/stats")).json()["fault_hits"]
            now = time.monotonic()
            if not is_hit and all(self.hits[name]):
                is_hit, ends_at = True, max(ends_at, now + after_hit)
        (await client.delete(f"{address}/faults")).raise_for_status()

    async def be_away(self, names: list[str], seconds: float) -> None:
        """Kill parts, and start them again after some time. Raises TimeoutError."""
        for name in names:
            self.system.kill(name)
        await asyncio.sleep(seconds)
        for name in names:
            self.system.start_again(name)
        for name in names:
            if name in self.system.instances:
                await self.system.until_it_answers(name)


@dataclass(frozen=True)
class Fault:
    name: str
    seconds: float  # how long, in a drill of three minutes; the restarts take as long as they take
    happen: Callable[[Scene, float], Awaitable[None]]


async def _one_dies(scene: Scene, seconds: float) -> None:
    await scene.be_away(scene.one_of_each(), seconds)


async def _hang(scene: Scene, seconds: float) -> None:
    await scene.misbehave(
        scene.one_of_each(), seconds, {"kind": "hang", "done": scene.dice.random() < 0.5}, after_hit=UNTIL_TIMEOUT
    )


async def _reset(scene: Scene, seconds: float) -> None:
    # All four ways, done and not done. Later ones hit while work is asked after and fetched.
    faults = [
        {"kind": "reset", "where": where, "done": done, "times": 1}
        for where in ("headers", "body")
        for done in (True, False)
    ]
    scene.dice.shuffle(faults)
    await scene.misbehave(scene.one_of_each(), seconds, *faults)


async def _drip(scene: Scene, seconds: float) -> None:
    await scene.misbehave(scene.one_of_each(), seconds, {"kind": "drip", "done": True}, after_hit=UNTIL_TIMEOUT)


async def _errors(scene: Scene, seconds: float) -> None:
    await scene.misbehave(scene.all(), seconds, {"kind": "fail", "status": 500, "done": True})


async def _busy(scene: Scene, seconds: float) -> None:
    await scene.misbehave(scene.all(), seconds, {"kind": "fail", "status": 429, "retry_after": 1})


async def _nonsense(scene: Scene, seconds: float) -> None:
    variants = ["html", "truncated", "cut_short", "huge", "wrong_shape"]
    faults: list[dict[str, Any]] = [{"kind": "garbage", "variant": variant, "done": True} for variant in variants]
    faults += [{"kind": "wrong_id"}, {"kind": "duplicate"}]
    scene.dice.shuffle(faults)
    await scene.misbehave(scene.one_of_each(), seconds, *({**fault, "times": 1} for fault in faults))


async def _lost_answers(scene: Scene, seconds: float) -> None:
    await asyncio.gather(
        *(
            scene.misbehave([name], seconds, {"kind": "lost_answer", "method": "POST", "path": SUBMISSION[kind]})
            for kind, name in zip(SERVICES, scene.one_of_each(), strict=True)
        )
    )


async def _all_of_a_kind_die(scene: Scene, seconds: float) -> None:
    kind = scene.dice.choice(SERVICES)
    scene.gives_up.add(kind)
    # The pauses between tries double: who begins in the first seconds has given up by then.
    long_enough = max(seconds, 2 * scene.system.retry_window + 3)
    await scene.be_away([name for name in scene.all() if name.startswith(kind)], long_enough)


async def _redis_dies(scene: Scene, seconds: float) -> None:
    await scene.be_away(["redis"], seconds)
    await scene.system.until_redis_answers()


async def _workers_die(scene: Scene, seconds: float) -> None:
    await scene.be_away(["beat", *(f"worker-{queue}" for queue in QUEUES)], seconds)


async def _web_dies(scene: Scene, seconds: float) -> None:
    await scene.be_away(["web"], seconds)


async def _rolling_restart(scene: Scene, _seconds: float) -> None:
    for name in scene.all():
        await scene.system.restart(name)


FAULTS = [
    Fault("one instance of each service is killed, and its connections refused", 4, _one_dies),
    Fault("one of each accepts calls and never answers", 5, _hang),
    Fault("one of each resets connections in the middle", 3, _reset),
    Fault("one of each sends a byte per second", 5, _drip),
    Fault("one of each does its work and loses the answer", 3, _lost_answers),
    Fault("all answer 500", 3, _errors),
    Fault("all answer 429 with Retry-After", 3, _busy),
    Fault("one of each answers HTML, half of a JSON, 50 MB, wrong ids, twice", 3, _nonsense),
    Fault("all workers and beat are killed", 2, _workers_die),
    Fault("web is killed", 2, _web_dies),
    Fault("every instance is restarted, one after the other", 0, _rolling_restart),
    Fault("all instances of a service are killed", 60, _all_of_a_kind_die),
    Fault("Redis is killed, with all that is in it", 60, _redis_dies),
]
