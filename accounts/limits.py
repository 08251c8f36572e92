"""How often something may be done from one address: counted on the audit record, so all processes share the count."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil

from django.utils import timezone

from accounts.audit import Action
from accounts.models import AuditEntry
from gateway.api.errors import ApiError, ErrorCode
from gateway.locks import shared_lock
from gateway.origin import network_of, origin

WINDOW = timedelta(hours=1)
MOST_ROWS = 5000


@contextmanager
def client_limited(*actions: Action, limit: int) -> Iterator[None]:
    """Run the block, which does one of these, unless the client did so that often within the last hour.

    One after the other for each client, so that many at once get no further; without Redis, these exceed it.
    Raises ApiError (too_many_attempts).
    """
    client_limit(*actions, limit=limit)  # cheap, and enough for whoever is over it
    with shared_lock(f"limit:{actions[0]}:{network_of(origin().address)}", lasts=30, wait=10) as alone:
        if not alone:
            raise ApiError(ErrorCode.TOO_MANY_ATTEMPTS, retry_after=10)
        client_limit(*actions, limit=limit)
        yield


def client_limit(*actions: Action, limit: int) -> None:
    """Raise ApiError (too_many_attempts) if these were done so often from where the client is within the last hour.

    Clients without an address count as one.
    """
    now, address = timezone.now(), origin().address
    done = AuditEntry.objects.filter(action__in=actions, at__gt=now - WINDOW).order_by("-at")
    here = network_of(address)
    if here == address:
        times = list(done.filter(address=address).values_list("at", flat=True)[:limit])
    else:  # of IPv6, a whole network is one client, for which databases have no common word
        rows = done.filter(address__contains=":").values_list("at", "address")[:MOST_ROWS]
        times = [at for at, each in rows if network_of(each) == here][:limit]
    if len(times) >= limit:
        wait = times[-1] + WINDOW - now
        raise ApiError(ErrorCode.TOO_MANY_ATTEMPTS, retry_after=max(1, ceil(wait.total_seconds())))
