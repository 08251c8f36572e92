"""From where is guessed, and how long it has to wait."""

from datetime import timedelta

from django.db.models import F

from accounts.models import FailedSignIns
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of

LOGIN = "/api/v2/auth/login"
HOME, HERE = "192.0.2.1", "198.51.100.7"


def address(number: int) -> str:
    return f"203.0.113.{number}"


def later(**time: float) -> None:
    """Let time pass for what was counted."""
    passed = timedelta(**time)
    FailedSignIns.objects.update(last_failed_at=F("last_failed_at") - passed)
    FailedSignIns.objects.exclude(blocked_until=None).update(blocked_until=F("blocked_until") - passed)


def refused(answer) -> int:
    """Return for how many seconds."""
    problem_of(answer, ErrorCode.TOO_MANY_ATTEMPTS)
    return int(answer.headers["Retry-After"])
