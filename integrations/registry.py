"""Which instances of the services there are, and which one to take."""

import random
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import RedisError

from integrations.addresses import AddressError, normalized
from integrations.clients.breaker import BreakerState, states_of
from integrations.clients.errors import Reason, TransientError
from integrations.models import ServiceInstance, ServiceKind

__all__ = ["Instance", "ServiceKind", "choose", "instance_of", "instances", "settings_instances", "tag_exists"]


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
    is_known_to_be_ill: bool = False


def settings_instances(kind: ServiceKind) -> list[Instance]:
    """Return those that the settings name by an address."""
    dialect = settings.SERVICE_DIALECTS[kind]
    urls = [normalized(url) for url in settings.SERVICE_URLS[kind] if not url.startswith(DNS)]
    return [Instance(kind, url, dialect) for url in urls]


def instances(kind: ServiceKind) -> list[Instance]:
    """Return all instances, those of the settings even before the first check has written them down.

    With those that have left: they take no work, but a tag that only they have is still asked for.
    """
    known = {row.base_url: instance_of(row) for row in ServiceInstance.objects.filter(kind=kind)}
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
    row = ServiceInstance.objects.filter(kind=kind, base_url=url).first()
    if row is not None:
        return instance_of(row)
    for each in settings_instances(kind):
        if each.base_url == url:
            return each
    raise TransientError(Reason.UNAVAILABLE)


def choose(
    kind: ServiceKind, *, tag: str | None = None, prefer: str | None = None, avoid: str | None = None
) -> Instance:
    """Return the instance to call: the one that has the work already, else the next in turn.

    The next in turn is one that is healthy, whose breaker is not open, and that takes work; in proportion to the
    weights, and fairly over all processes. If there is none, one that only takes work: the check may be wrong.

    `tag` is one that the instance must have, unless it is one of other services only. `prefer` and `avoid` are base
    URLs; who has work already is asked after it whatever became of it, and nobody else is.

    Raises TransientError if there is none.
    """
    if prefer is not None:
        return _holder(kind, prefer)
    known = instances(kind)
    if tag is not None and (any(tag in each.tags for each in known) or not tag_exists(tag)):
        known = [each for each in known if tag in each.tags]
    usable = [each for each in known if each.takes_work]
    if not usable:
        raise TransientError(Reason.UNAVAILABLE)
    states = states_of(each.base_url for each in usable)
    well = [each for each in usable if not each.is_known_to_be_ill and states[each.base_url] is not BreakerState.OPEN]
    others = [each for each in well or usable if each.base_url != avoid]
    return _next_in_turn(kind, others or well or usable)


def tag_exists(tag: str) -> bool:
    """Return whether any instance of any service has the tag."""
    return any(tag in tags for tags in ServiceInstance.objects.filter(left_at=None).values_list("tags", flat=True))


def instance_of(row: ServiceInstance) -> Instance:
    return Instance(
        kind=ServiceKind(row.kind),
        base_url=row.base_url,
        dialect=row.dialect,
        weight=row.weight,
        tags=frozenset(row.tags),
        is_registered=row.is_registered,
        takes_work=row.takes_work,
        is_known_to_be_ill=row.is_healthy is False,
    )


def _next_in_turn(kind: ServiceKind, candidates: list[Instance]) -> Instance:
    if len(candidates) == 1:
        return candidates[0]
    order = _order(tuple(each.weight for each in candidates))
    try:
        turn = int(get_redis_connection("default").incr(f"service-turn:{kind}"))
    except RedisError:  # by chance, which is fair too in the long run
        turn = random.randrange(len(order))  # noqa: S311 - spreads load, guards nothing
    return candidates[order[turn % len(order)]]


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
