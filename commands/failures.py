"""Why a command fails: stable codes, and the sentence that a person reads.

A code is a reason, with the stage before it where a service is to blame (`runner_timeout`). What is stored is the code
and what the service or the check said; the sentence is made when somebody reads it, in their language.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from commands.states import Stage
from files.formats import FormatErrorCode
from integrations.clients.errors import Reason

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise


@dataclass(frozen=True)
class FailureType:
    sentence: "StrPromise"
    retryable: bool  # may the same command succeed if it is sent again?


_SERVICE_FAILURES: dict[str, FailureType] = {
    Reason.UNAVAILABLE: FailureType(gettext_lazy("The %(service)s service could not be reached."), retryable=True),
    Reason.BUSY: FailureType(
        gettext_lazy("The %(service)s service has as many calls as it may have at once."), retryable=True
    ),
    Reason.LEFT_ALONE: FailureType(
        gettext_lazy("The %(service)s service is left alone for a while, after calls that failed."), retryable=True
    ),
    Reason.TIMEOUT: FailureType(gettext_lazy("The %(service)s service did not answer in time."), retryable=True),
    Reason.ERROR: FailureType(gettext_lazy("The %(service)s service had an internal error."), retryable=True),
    Reason.INVALID_ANSWER: FailureType(
        gettext_lazy("The %(service)s service gave an answer that makes no sense."), retryable=True
    ),
    Reason.NOT_FOUND: FailureType(gettext_lazy("The %(service)s service lost track of the work."), retryable=True),
    "unknown_call": FailureType(
        gettext_lazy("The %(service)s service does not know the call; its address may be wrong."), retryable=True
    ),
    Reason.REFUSED: FailureType(gettext_lazy("The %(service)s service refused the work."), retryable=False),
    "file_missing": FailureType(
        gettext_lazy("The %(service)s service does not have the file that it announced."), retryable=True
    ),
    "failed": FailureType(gettext_lazy("The %(service)s service reported a failure."), retryable=False),
    "cancelled": FailureType(gettext_lazy("The %(service)s service cancelled the work by itself."), retryable=True),
    "time_limit": FailureType(gettext_lazy("The %(service)s service took longer than is allowed."), retryable=True),
}

FAILURES: dict[str, FailureType] = {
    **{f"{stage}_{reason}": failure for stage in Stage.values for reason, failure in _SERVICE_FAILURES.items()},
    **{
        str(code): FailureType(gettext_lazy("The %(service)s service made a file that is not valid."), retryable=False)
        for code in FormatErrorCode
    },
    "deadline_passed": FailureType(gettext_lazy("The command was not finished by its deadline."), retryable=False),
    "cancel_unconfirmed": FailureType(
        gettext_lazy("The runner did not confirm that it stopped; it may still be working."), retryable=False
    ),
    "poisoned": FailureType(
        gettext_lazy("Three of the gateway's workers died over this command, one after another."), retryable=True
    ),
    "worker_lost": FailureType(gettext_lazy("The gateway's worker died during this try."), retryable=True),
    "storage_unavailable": FailureType(gettext_lazy("The gateway could not store a file."), retryable=True),
    "internal_error": FailureType(
        gettext_lazy("Something went wrong in the gateway. It has been logged."), retryable=True
    ),
}


def failure_sentence(code: str, stage: str, cause: str) -> str:
    """Return what a person reads, in the current language; `cause` is what a service or check said, as it said it."""
    failure = FAILURES.get(code)
    sentence = _("The command failed.") if failure is None else str(failure.sentence)
    sentence = sentence % {"service": Stage(stage).label if stage else ""}
    return f"{sentence} ({cause})" if cause else sentence


def is_retryable(code: str) -> bool:
    failure = FAILURES.get(code)
    return failure is not None and failure.retryable
