"""Lets the blows of a plan fall, several at a time, and makes good at the end what they broke."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random

import httpx
import psycopg
import redis

from tests.drill.cluster import Cluster
from tests.drill.plan import Blow
from tests.drill.system import DrillSystem

OTHERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid"

# So much longer a service misbehaves until about every way of it has been met.
MET_SECONDS = 15.0


class Blows:
    def __init__(self, system: DrillSystem, cluster: Cluster | None, database_url: str | None, seed: int) -> None:
        self._system, self._cluster, self._database_url = system, cluster, database_url
        self._dice = Random(seed)  # noqa: S311 - no secret
        self._away: set[str] = set()  # what is dead just now, and the database if that is
        self.fallen: Counter[str] = Counter()
        self.killed: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()  # requests that met each way of misbehaving

    async def fall(self, blows: list[Blow], began: float) -> None:
        """Let them fall, each at its time, and come back when all is well again. Raises TimeoutError."""
        async with asyncio.TaskGroup() as group:
            for blow in blows:
                await asyncio.sleep(max(began + blow.at - time.monotonic(), 0))
                group.create_task(self._strike(blow))
        for name in self._system.instances:
            await self._system.until_it_answers(name)
        await self._system.until_redis_answers()

    async def _strike(self, blow: Blow) -> None:
        self.fallen[blow.kind] += 1
        match blow.kind:
            case "kill":
                await self._kill([name for name in blow.victims if name not in self._away], blow.lasts)
            case "kill child":
                for name in set(blow.victims) - self._away:
                    self._kill_child(name)
            case "misbehave":
                async with httpx.AsyncClient(timeout=5) as client:
                    await asyncio.gather(*(self._misbehave(client, name, blow) for name in blow.victims))
            case "cut database":
                await asyncio.to_thread(self._cut, blow.share)
            case "empty broker":
                await asyncio.to_thread(self._empty_broker)
            case "restart database":
                await self._restart_database(blow.lasts)

    async def _kill(self, names: list[str], lasts: float) -> None:
        self._away |= set(names)
        for name in names:
            self.killed[name] += 1
            self._system.kill(name)
        await asyncio.sleep(lasts)
        for name in names:
            self._system.start_again(name)
        self._away -= set(names)

    def _kill_child(self, name: str) -> None:
        """Kill one process of a worker's pool; its parent starts another."""
        parent = self._system.pid_of(name)
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            if children:
                os.kill(int(self._dice.choice(children)), signal.SIGKILL)
                self.killed[f"a child of {name}"] += 1
        except (OSError, ProcessLookupError):
            return  # it had gone before

    async def _misbehave(self, client: httpx.AsyncClient, name: str, blow: Blow) -> None:
        address, until = f"{self._system.instances[name]}/sandbox", time.monotonic() + blow.lasts + MET_SECONDS
        try:
            (await client.put(f"{address}/faults", json={"faults": list(blow.faults)})).raise_for_status()
            await asyncio.sleep(blow.lasts)
            hits = await self._hits(client, address)
            while sum(hits) < len(hits) and time.monotonic() < until:  # a busy machine sends it few requests
                await asyncio.sleep(0.5)
                hits = await self._hits(client, address)
            (await client.delete(f"{address}/faults")).raise_for_status()
        except httpx.TransportError:
            return  # it is dead, and knows nothing of faults when it comes back
        for fault, count in zip(blow.faults, hits, strict=False):  # another blow may have put others in their place
            self.hits[fault["kind"]] += count

    @staticmethod
    async def _hits(client: httpx.AsyncClient, address: str) -> list[int]:
        hits: list[int] = (await client.get(f"{address}/stats")).json()["fault_hits"]
        return hits

    def _cut(self, share: float) -> None:
        if self._database_url is None or "database" in self._away:
            return
        try:
            with psycopg.connect(self._database_url, autocommit=True, connect_timeout=5) as connection:
                pids = [pid for (pid,) in connection.execute(OTHERS)]
                for pid in self._dice.sample(pids, round(share * len(pids))):
                    connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
        except psycopg.OperationalError:
            return  # it is restarted at this moment

    def _empty_broker(self) -> None:
        """Everything goes: messages, cache, tickets, breakers."""
        client = redis.Redis.from_url(self._system.env["BROKER_URL"])
        try:
            client.flushdb()
        except redis.RedisError:
            return  # it is dead, with all that was in it
        finally:
            client.close()

    async def _restart_database(self, lasts: float) -> None:
        if self._cluster is None or "database" in self._away:
            return
        self._away.add("database")
        await asyncio.to_thread(self._cluster.crash)
        await asyncio.sleep(lasts)
        await asyncio.to_thread(self._cluster.start)
        self._away.discard("database")
