"""How often calls may be repeated at once: a service in trouble must not get many times as many calls for it.

Each process keeps to its share by itself: then all of them together do too. Threads that come in each other's way may
be off by one call, which is not worth a lock.
"""

SHARE = 0.1  # of the calls
RESERVE = 3.0  # after a quiet time

_left: dict[str, float] = {}


def earn_retry(base_url: str) -> None:
    """Count a call of an instance."""
    _left[base_url] = min(_left.get(base_url, RESERVE) + SHARE, RESERVE)


def spend_retry(base_url: str) -> bool:
    """Return whether a call of the instance may be repeated, and count it."""
    left = _left.get(base_url, RESERVE)
    if left < 1:
        return False
    _left[base_url] = left - 1
    return True


def forget_retries() -> None:
    """Forget all calls. For tests: as if the process had just begun."""
    _left.clear()
