"""How a call to a service can go wrong, by what the caller can do about it."""

from enum import StrEnum


class Reason(StrEnum):
    UNAVAILABLE = "unavailable"  # no connection, or 429/503
    BUSY = "busy"  # it has as many calls as it may have at once
    LEFT_ALONE = "left_alone"  # calls before this one failed, and it was not made (breaker)
    TIMEOUT = "timeout"
    ERROR = "error"  # 5xx
    INVALID_ANSWER = "invalid_answer"
    NOT_FOUND = "not_found"  # 404: it does not know the id, or the call
    REFUSED = "refused"  # any other 4xx


class ServiceError(Exception):
    """`detail` is what the service said about it, if anything; bounded, and fit to be shown.

    `no_answer` says that the instance was really called and did not answer: no connection came about, it broke, or
    the time was over. Only that speaks against the instance.
    """

    def __init__(
        self, reason: Reason, detail: str = "", retry_after: float | None = None, *, no_answer: bool = False
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after
        self.no_answer = no_answer
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class TransientError(ServiceError):
    """The same call may succeed later."""


class NotTakenError(TransientError):
    """The call changed nothing: none was made, no connection came about, or the service says that it takes no work."""


class InvalidAnswerError(ServiceError):
    """The answer breaks the contract. A few more tries are fair: it may be a proxy's error page."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.INVALID_ANSWER, detail)


class NotFoundError(ServiceError):
    """The service does not know the id, which it may have given itself; or, of a hand-over, not the call."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Reason.NOT_FOUND, detail)


class PermanentError(ServiceError):
    """The service understood and refused: trying again changes nothing."""
