"""Faults a tester switches on: what a real service does on a bad day."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from integrations.sandbox.bodies import Body

if TYPE_CHECKING:
    from collections.abc import Iterator

RequestKind = Literal[
    "slow",
    "fail",
    "hang",
    "drop",
    "reset",
    "drip",
    "garbage",
    "wrong_id",
    "duplicate",
    "lost_file",
    "lost_task",
    "lost_answer",
]
CallbackKind = Literal["lost_callback", "late_callback", "repeated_callback"]
WorkKind = Literal["cycle", "never_finish"] | CallbackKind
REQUEST_KINDS: frozenset[str] = frozenset(get_args(RequestKind))
CALLBACK_KINDS: tuple[CallbackKind, ...] = get_args(CallbackKind)
COMMON_KINDS: frozenset[str] = REQUEST_KINDS - {"lost_task"}

HEALTH_PATHS = ("/health", "/api/v1/health")

# Some kinds speak of certain reads only, whatever their `path` says.
_ONLY_READS_OF = {"lost_file": ("/files/", "/atlas/"), "lost_task": ("/tasks/",)}


class Fault(Body, extra="forbid"):
    """One fault as a tester writes it."""

    kind: RequestKind | WorkKind
    path: str | None = Field(default=None, pattern="^/", max_length=200)
    method: str | None = Field(default=None, pattern="^[A-Za-z]+$", max_length=20)
    seconds: float = Field(default=1, ge=0, le=3600)
    status: int = Field(default=500, ge=400, le=599)
    retry_after: int | None = Field(default=None, ge=0)
    variant: Literal["not_json", "wrong_shape", "html", "truncated", "cut_short", "huge"] = "not_json"
    where: Literal["headers", "body"] = "body"
    done: bool = False
    times: int | None = Field(default=None, ge=1)

    @property
    def breaks_off(self) -> bool:
        """Whether it breaks the connection instead of answering in full."""
        cut_short = self.kind == "garbage" and self.variant == "cut_short"
        return cut_short or self.kind in {"drop", "lost_answer", "reset", "drip"}

    def concerns(self, method: str, path: str) -> bool:
        if path in HEALTH_PATHS:
            # Else every fault would also take the instance out of the balancer.
            return self.path == path and self._concerns_method(method)
        reads_of = _ONLY_READS_OF.get(self.kind)
        if reads_of is not None and not (method == "GET" and path.startswith(reads_of)):
            return False
        return path.startswith(self.path or "/") and self._concerns_method(method)

    def _concerns_method(self, method: str) -> bool:
        return self.method is None or self.method.upper() == method


class FaultList(Body, extra="forbid"):
    """The body of ``PUT /sandbox/faults``."""

    faults: list[Fault] = Field(max_length=100)


@dataclass
class _Active:
    fault: Fault
    left: int | None
    hits: int = 0


class FaultBoard:
    """The faults now on, each with the hits it has left. In memory only: a restart is a fresh start."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self.kinds = kinds
        self._all: list[_Active] = []
        self._active: list[_Active] = []
        self._changed = asyncio.Event()

    def replace(self, faults: list[Fault]) -> None:
        """Put these faults in place of all others, and let go whatever the old ones hold back."""
        self._all = [_Active(fault, fault.times) for fault in faults]
        self._active = list(self._all)
        self._changed.set()
        self._changed = asyncio.Event()

    def describe(self) -> list[dict[str, object]]:
        """Return the faults as written, ``times`` being the hits that are left."""
        return [
            {**active.fault.model_dump(exclude_unset=True), **({"times": active.left} if active.left else {})}
            for active in self._active
        ]

    def count_hits(self) -> list[int]:
        """Return how often each of the faults has acted, in the order they were written in; also those used up."""
        return [each.hits for each in self._all]

    async def wait_for_change(self, seconds: float | None = None) -> None:
        """Wait until the faults are replaced, at most that long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def hits(self, method: str, path: str) -> Iterator[Fault]:
        """Yield the faults that act on this request; each one yielded has used up one of its times."""
        for active in list(self._active):
            # A slow fault gives time to switch the ones after it off.
            is_on = active in self._active
            if is_on and active.fault.kind in REQUEST_KINDS and active.fault.concerns(method, path):
                self._use(active)
                yield active.fault

    def take(self, kind: WorkKind, method: str, path: str) -> bool:
        """Say whether such a fault acts on the work this request asks for, using up one of its times."""
        for active in self._active:
            if active.fault.kind == kind and active.fault.concerns(method, path):
                self._use(active)
                return True
        return False

    def _use(self, active: _Active) -> None:
        active.hits += 1
        if active.left is None:
            return
        active.left -= 1
        if active.left == 0:
            self._active.remove(active)
