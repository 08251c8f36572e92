"""Why no instance of a service can take work at this moment, as far as the gateway knows: for those who wait for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from integrations.clients.breaker import BreakerState, states_of
from integrations.models import ServiceInstance, ServiceKind
from integrations.registry import Instance, with_named, with_tag


class Lack(StrEnum):
    """What is missing."""

    INSTANCE = "instance"  # there is none at all
    TAG = "tag"  # none has the tag that is asked for
    IN_USE = "in_use"  # all are draining or disabled
    HEALTHY = "healthy"  # all that are in use are down
    CLOSED_BREAKER = "closed_breaker"  # all that are well are left alone for a while


@dataclass(frozen=True)
class Outage:
    """`total` instances are in use, `down` of them are ill; `unused` more are draining or disabled.

    `since` is since when all of them are down; None if nobody knows.
    """

    lack: Lack
    total: int = 0
    down: int = 0
    unused: int = 0
    since: datetime | None = None


def outage_of(kind: ServiceKind, rows: Iterable[ServiceInstance], *, tag: str = "") -> Outage | None:
    """Return why no instance can take work, None if one can. `rows` are all of the kind that have not left.

    Asks Redis how the breakers are, and the database only if no instance has the tag.
    """
    by_url = {row.base_url: row for row in rows}
    known = with_named(kind, by_url.values())
    if not known:
        return Outage(Lack.INSTANCE)
    known = with_tag(kind, known, tag or None)
    if not known:
        return Outage(Lack.TAG)
    used = [each for each in known if each.takes_work or _is_silent(by_url.get(each.base_url))]
    unused = len(known) - len(used)
    if not used:
        return Outage(Lack.IN_USE, unused=unused)
    well = [each for each in used if each.takes_work and not each.may_be_ill]
    if not well:
        return Outage(Lack.HEALTHY, len(used), len(used), unused, _since(used, by_url))
    states = states_of(each.base_url for each in well)
    if all(state is BreakerState.OPEN for state in states.values()):
        return Outage(Lack.CLOSED_BREAKER, len(used), len(used) - len(well), unused)
    return None


def _is_silent(row: ServiceInstance | None) -> bool:
    """Return whether it would get work, if only its heartbeat came."""
    return row is not None and row.has_gone() and not (row.is_disabled or row.is_draining)


def _since(down: list[Instance], rows: dict[str, ServiceInstance]) -> datetime | None:
    """Return when the last of them went down. Of one that was never checked nobody knows."""
    moments = [rows[each.base_url].since for each in down if each.base_url in rows]
    known = [moment for moment in moments if moment is not None]
    return max(known) if len(known) == len(down) else None
