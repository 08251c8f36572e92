"""What will happen in a chaos run: made of a seed alone, so that the same seed gives the same commands and blows."""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from gateway.embedded.system import QUEUES, SERVICES
from tests.drill.system import INSTANCES

USERS = ("chaos-1", "chaos-2", "chaos-3")
PRIORITIES = ("low", "normal", "high")
PARTS = (*(f"worker-{queue}" for queue in QUEUES), "beat", "web", "redis")
STAND_INS = tuple(f"{kind}-{number}" for kind in SERVICES for number in INSTANCES)
BATCH = 4  # commands that are sent by one call
# How often each kind of blow falls, of so many.
BLOWS = {"kill": 8, "kill child": 3, "misbehave": 14, "cut database": 3, "empty broker": 2, "restart database": 1}
MISBEHAVIOUR: tuple[dict[str, Any], ...] = (
    {"kind": "lost_answer", "method": "POST"},
    {"kind": "lost_answer"},
    {"kind": "duplicate"},
    {"kind": "wrong_id"},
    {"kind": "slow", "seconds": 2},
    {"kind": "hang", "done": True},
    {"kind": "hang"},
    {"kind": "drop"},
    {"kind": "reset", "done": True},
    {"kind": "reset", "where": "headers", "done": True},
    {"kind": "drip", "done": True},
    {"kind": "fail", "status": 500, "done": True},
    {"kind": "fail", "status": 503, "retry_after": 1},
    {"kind": "fail", "status": 429, "retry_after": 1},
    *({"kind": "garbage", "variant": variant, "done": True} for variant in ("html", "truncated", "wrong_shape")),
    {"kind": "lost_file"},
)
OF_RUNNERS: tuple[dict[str, Any], ...] = (
    {"kind": "lost_callback"},
    {"kind": "late_callback"},
    {"kind": "repeated_callback"},
    {"kind": "lost_task"},
    {"kind": "never_finish"},
)


@dataclass(frozen=True)
class Order:
    """One command that is sent: when, by whom, and what its sender does about it. Times in seconds."""

    number: int
    at: float
    user: int
    kind: str | None  # of a step by itself: its service
    text: str
    priority: str
    deadline: float | None  # after it is sent
    cancelled_after: float | None
    given_up_after: float | None  # its sender does not wait for the first answer, and sends it again
    is_sent_twice: bool  # at the same moment
    retried: str | None  # what its sender does if it did not complete: go on after the last good stage, or from "start"
    batch: int | None = None  # sent by one call together with the others of this number


@dataclass(frozen=True)
class Blow:
    """One thing that goes wrong. What is killed comes back after `lasts` seconds, what misbehaves is told to stop."""

    at: float
    kind: str
    victims: tuple[str, ...]
    lasts: float
    faults: tuple[dict[str, Any], ...] = ()
    share: float = 0.0  # of the connections of the database that are cut

    def __str__(self) -> str:
        what = ", ".join(self.victims)
        if self.kind == "misbehave":
            what += ": " + ", ".join(" ".join(map(str, fault.values())) for fault in self.faults)
        if self.kind == "cut database":
            what = f"{self.share:.0%} of the connections"
        return f"{self.kind} {what}".strip()


@dataclass(frozen=True)
class Plan:
    orders: list[Order]
    blows: list[Blow]

    @property
    def misled(self) -> int:
        """Return how many requests are to be misled, if every service gets as many as it can mislead."""
        return sum(len(blow.victims) * sum(fault["times"] for fault in blow.faults) for blow in self.blows)


def plan_of(seed: int, *, commands: int, rate: float, gap: float, has_own_database: bool) -> Plan:
    """Plan so many commands, `rate` a second, and a blow every `gap` seconds on average for as long as that takes."""
    dice = Random(seed)  # noqa: S311 - no secret
    orders = [_order(dice, number, number / rate) for number in range(1, commands + 1)]
    for first in dice.sample(range(0, commands, BATCH), commands // BATCH // 6 + 1):
        of_one = orders[first]
        for place in range(first, min(first + BATCH, commands)):
            orders[place] = replace(orders[place], at=of_one.at, user=of_one.user, kind=None, batch=of_one.number)
    lasts = commands / rate
    kinds = [kind for kind in BLOWS if has_own_database or kind != "restart database"]
    # One of each at least; and services misbehave so often that many requests meet it, whatever the seed.
    deck = kinds + ["misbehave"] * round(lasts / gap / 4)
    deck += dice.choices(kinds, [BLOWS[kind] for kind in kinds], k=max(round(lasts / gap) - len(deck), 0))
    dice.shuffle(deck)
    times = sorted(dice.uniform(1.0, lasts) for _ in deck)
    return Plan(orders, [_blow(dice, kind, at) for kind, at in zip(deck, times, strict=True)])


def _order(dice: Random, number: int, at: float) -> Order:
    kind = dice.choice(SERVICES) if dice.random() < 0.1 else None
    end, doubt = dice.random(), dice.random()
    is_cancelled, has_deadline = end < 0.25, 0.25 <= end < 0.4
    # What is to be stopped is long enough that it would still run if nobody stopped it.
    is_slow = kind is None and dice.random() < (0.7 if is_cancelled or has_deadline else 0.3)
    slow = f"sleep {dice.choice((1, 2, 15))} then " if is_slow else ""
    return Order(
        number=number,
        at=at,
        user=dice.randrange(len(USERS)),
        kind=kind,
        text=f"{slow}echo chaos {number}",
        priority=dice.choice(PRIORITIES),
        deadline=dice.choice((0.5, 3.0, 8.0, 600.0)) if has_deadline else None,
        cancelled_after=dice.choice((0.0, 0.3, 1.0, 3.0)) if is_cancelled else None,
        given_up_after=dice.choice((0.005, 0.02, 0.05, 0.1)) if doubt < 0.2 else None,
        is_sent_twice=0.2 <= doubt < 0.4,
        retried=dice.choice(("on", "start", None)) if kind is None else None,
    )


def _blow(dice: Random, kind: str, at: float) -> Blow:
    lasts = dice.uniform(0.0, 2.5)
    match kind:
        case "kill":  # often several at once, and now and then a service too
            victims = dice.sample(PARTS, dice.choice((1, 1, 2, 3, 5)))
            if dice.random() < 0.4:
                victims.append(dice.choice(STAND_INS))
            return Blow(at, kind, tuple(victims), lasts)
        case "kill child":
            workers = [name for name in PARTS if name.startswith("worker-")]
            return Blow(at, kind, tuple(dice.sample(workers, dice.choice((1, 2, 3)))), 0.0)
        case "misbehave":
            victims = dice.sample(STAND_INS, dice.choice((3, 4, 6)))
            menu = MISBEHAVIOUR + (OF_RUNNERS * 3 if all(name.startswith("runner") for name in victims) else ())
            faults = [{**fault, "times": dice.choice((1, 2, 3))} for fault in dice.sample(menu, dice.choice((2, 3, 4)))]
            return Blow(at, kind, tuple(victims), dice.uniform(3.0, 8.0), tuple(faults))
        case "cut database":
            return Blow(at, kind, (), 0.0, share=dice.choice((0.2, 0.5, 1.0)))
        case _:
            return Blow(at, kind, (), lasts)
