"""Which instances of the services there are, and which one to take."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from django.conf import settings

from gateway.rows import select
from integrations import fleet
from integrations.addresses import AddressError, normalized
from integrations.clients.breaker import BreakerState, Standing, claim_probe, standings_of
from integrations.clients.errors import NotTakenError, Reason, TransientError
from integrations.models import Illness, ServiceInstance, ServiceKind

__all__ = [
    "Instance",
    "ServiceKind",
    "choose",
    "instance_of",
    "instances",
    "settings_instances",
    "tag_exists",
    "with_named",
    "with_tag",
]

ROUND_ROBIN, LEAST_IN_FLIGHT = "round_robin", "least_in_flight"  # SERVICE_BALANCING
TURN_KEPT_SECONDS = 3600
DNS = "dns+"  # dns+http://runner.internal:9000 stands for each address that the name has


@dataclass(frozen=True)
class Instance:
    """What a caller needs to know of an instance."""

    kind: ServiceKind
    base_url: str
    dialect: str = "standard"  # how it speaks: integrations.clients.dialects
    weight: int = 1
    tags: frozenset[str] = frozenset()
    is_registered: bool = False  # by somebody, and not named by the settings
    takes_work: bool = True
    may_be_ill: bool = False  # is known to be, or nobody has looked yet at one that was registered
    only_calls_fail: bool = False  # ill, though its check is good: a call finds out whether it is well again


def settings_instances(kind: ServiceKind) -> list[Instance]:
    """Return those that the settings name by an address."""
    dialect = settings.SERVICE_DIALECTS[kind]
    urls = [normalized(url) for url in settings.SERVICE_URLS[kind] if not url.startswith(DNS)]
    return [Instance(kind, url, dialect) for url in urls]


def instances(kind: ServiceKind) -> list[Instance]:
    """Return all instances that have not left, those of the settings even before the first check wrote them down.

    Many may have left; each hand-over asks, and must not pay for them.
    """
    named = {each.base_url for each in settings_instances(kind)}
    rows = select(ServiceInstance, {"kind": kind, "left_at": None})
    gone = named - {row.base_url for row in rows}
    if gone:  # what an administrator disabled stays so, even if it left and the settings name it again
        rows += ServiceInstance.objects.filter(kind=kind, base_url__in=gone)
    return with_named(kind, rows)


def with_named(kind: ServiceKind, rows: Iterable[ServiceInstance]) -> list[Instance]:
    """Return the instances of these rows, and those of the settings that have no row yet."""
    known = {row.base_url: instance_of(row) for row in rows}
    for each in settings_instances(kind):
        known.setdefault(each.base_url, each)
    return [known[url] for url in sorted(known)]


def _holder(kind: ServiceKind, base_url: str) -> Instance:
    """Return the instance that was given work, whatever became of it: drained, disabled, or left.

    Never another one: that would do the work a second time. Raises TransientError if nobody knows it any more.
    """
    try:
        url = normalized(base_url)
    except AddressError:  # none was found when the work was to be given away
        raise TransientError(Reason.UNAVAILABLE) from None
    for row in select(ServiceInstance, {"kind": kind, "base_url": url}):
        return instance_of(row)
    for each in settings_instances(kind):
        if each.base_url == url:
            return each
    raise TransientError(Reason.UNAVAILABLE)


def choose(
    kind: ServiceKind,
    *,
    tag: str | None = None,
    prefer: str | None = None,
    avoid: str | None = None,
    may_probe: bool = True,
) -> Instance:
    """Return the instance to call: the one that has the work already, else the next of those that are well.

    Well is who takes work, is healthy, and whose breakers are closed. If nobody is, one that at least takes work: the
    check may be wrong. Who has as many calls as it may have is passed over. Whose breaker is half-open gets one call of
    the whole fleet, which finds out.

    `tag` is one that the instance must have, unless it is one of other services only. `prefer` and `avoid` are base
    URLs; who has work already is asked after it whatever became of it, and nobody else is. Without
    `may_probe` none is taken to find out how it is: a search, say, tells nothing of how it does its work.

    Raises TransientError if there is none, NotTakenError (busy) if all have as many calls as they may have.
    """
    if prefer is not None:
        return _holder(kind, prefer)
    usable = [each for each in with_tag(kind, instances(kind), tag) if each.takes_work]
    if not usable:
        raise TransientError(Reason.UNAVAILABLE)
    standings = standings_of(each.base_url for each in usable)
    candidates = _candidates(usable, standings, avoid, may_probe=may_probe)
    free = [each for each in candidates if _is_free(standings[each.base_url])]
    if not free:
        raise NotTakenError(Reason.BUSY)
    others = [each for each in free if each.base_url != avoid] or free
    if settings.SERVICE_BALANCING == LEAST_IN_FLIGHT:
        return _any_of(_with_the_fewest_calls(others, standings))
    return _next_in_turn(kind, others)


def with_tag(kind: ServiceKind, known: list[Instance], tag: str | None) -> list[Instance]:
    """Return those that may get work for which this tag is asked: all, if it is one of other services only."""
    if not tag or not (any(tag in each.tags for each in known) or not tag_exists(tag) or _left_with(kind, tag)):
        return known
    return [each for each in known if tag in each.tags]


def _candidates(
    usable: list[Instance], standings: dict[str, Standing], avoid: str | None, *, may_probe: bool
) -> list[Instance]:
    """Return those that may get the call, the best that there are."""
    healthy = [each for each in usable if not each.may_be_ill]
    well = [each for each in healthy if standings[each.base_url].breaker is BreakerState.CLOSED]
    for each in (each for each in usable if may_probe and (not each.may_be_ill or each.only_calls_fail)):
        standing = standings[each.base_url]
        may_be_probed = standing.breaker is BreakerState.HALF_OPEN and _is_free(standing) and each.base_url != avoid
        if may_be_probed and (not well or claim_probe(each.base_url)):
            return [each]
    not_open = [each for each in usable if standings[each.base_url].breaker is not BreakerState.OPEN]
    return well or not_open or usable


def _is_free(standing: Standing) -> bool:
    return standing.in_flight < int(settings.SERVICE_MAX_IN_FLIGHT)


def _with_the_fewest_calls(candidates: list[Instance], standings: dict[str, Standing]) -> list[Instance]:
    """Return those that have the fewest calls at this moment, for their weight."""
    loads = [standings[each.base_url].in_flight / each.weight for each in candidates]
    return [each for each, load in zip(candidates, loads, strict=True) if load == min(loads)]


def _any_of(candidates: list[Instance]) -> Instance:
    """Choose by chance, by weight. Which of them are equal changes with every call: no turn would ever come round."""
    [chosen] = random.choices(candidates, [each.weight for each in candidates])  # noqa: S311 - spreads load
    return chosen


def tag_exists(tag: str) -> bool:
    """Return whether any instance of any service has the tag."""
    return any(tag in tags for tags in ServiceInstance.objects.filter(left_at=None).values_list("tags", flat=True))


def _left_with(kind: ServiceKind, tag: str) -> bool:
    """Return whether one that has left had the tag: it is still asked for, as it may come back."""
    left = ServiceInstance.objects.filter(kind=kind, left_at__isnull=False)
    return any(tag in tags for tags in left.values_list("tags", flat=True))


def instance_of(row: ServiceInstance) -> Instance:
    return Instance(
        kind=ServiceKind(row.kind),
        base_url=row.base_url,
        dialect=row.dialect,
        weight=row.weight,
        tags=frozenset(row.tags),
        is_registered=row.is_registered,
        takes_work=row.takes_work,
        only_calls_fail=row.is_healthy is False and row.illness == Illness.CALLS_FAIL,
        may_be_ill=not row.is_healthy and (row.is_registered or row.is_healthy is False),
    )


def _next_in_turn(kind: ServiceKind, candidates: list[Instance]) -> Instance:
    if len(candidates) == 1:
        return candidates[0]
    order = _order(tuple(each.weight for each in candidates))
    # A counter for each set of candidates: one for all would step over some where the sets take turns.
    names = "\n".join(f"{each.weight} {each.base_url}" for each in candidates)
    name = sha256(names.encode()).hexdigest()[:16]
    key = f"service-turn:{kind}:{name}"

    def next_turn(redis: Any) -> int:
        pipeline = redis.pipeline(transaction=False)
        turn, _kept = pipeline.incr(key).expire(key, TURN_KEPT_SECONDS).execute()
        return int(turn)

    turn = fleet.ask(next_turn, None)
    if turn is None:
        return _any_of(candidates)  # which is fair too in the long run
    # Each set begins somewhere else: if sets are seldom the same, the first in line would get all, and others nothing.
    return candidates[order[(turn + int(name, 16)) % len(order)]]


@lru_cache(maxsize=256)
def _order(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Return who is next, over and over: each as often as its weight says, and as evenly as can be (smooth WRR)."""
    credit, order = [0] * len(weights), []
    for _ in range(sum(weights)):
        credit = [have + weight for have, weight in zip(credit, weights, strict=True)]
        best = max(range(len(weights)), key=credit.__getitem__)
        credit[best] -= sum(weights)
        order.append(best)
    return tuple(order)
