"""How often something may be done from one address: counted on the audit record, so all processes share the count."""

from datetime import timedelta
from math import ceil

from django.utils import timezone

from accounts.audit import Action
from accounts.models import AuditEntry
from gateway.api.errors import ApiError, ErrorCode
from gateway.locks import transaction_lock
from gateway.origin import network_of, origin

WINDOW = timedelta(hours=1)
MOST_ROWS = 5000


def client_limit(*actions: Action, limit: int) -> None:
    """Raise ApiError (too_many_attempts) if these were done so often from where the client is within the last hour.

    Clients without an address count as one. Many at once may exceed it: see client_limit_exactly.
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


def client_limit_exactly(*actions: Action, limit: int) -> None:
    """The same for many requests at once. Call it in the transaction that does one of these: one after the other."""
    transaction_lock(f"limit:{actions[0]}:{network_of(origin().address)}")
    client_limit(*actions, limit=limit)
