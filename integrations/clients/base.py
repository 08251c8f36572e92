"""What the pipeline sees of a service. All three work alike: work is submitted, looked after, and leaves a file."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, StrictStr, ValidationError

from integrations.clients.errors import InvalidAnswerError, NotFoundError, Reason, TransientError
from integrations.clients.http import call, printable
from integrations.registry import Instance, ServiceKind

Request = TypeVar("Request")
MAX_ID_LENGTH = 255


class WorkState(StrEnum):
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class WorkReport:
    """What a service says of one piece of work."""

    remote_id: str
    state: WorkState
    file_id: str | None = None  # always there when the state is DONE
    progress: int | None = None
    error: str = ""


class Answer(BaseModel):
    """Base of the typed answers: unknown members are ignored, numbers serve as ids."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


A = TypeVar("A", bound=Answer)


class FileAnswer(Answer):
    content: StrictStr


class StageClient(ABC, Generic[Request]):
    """A client of one instance. Every method raises ServiceError and nothing else."""

    kind: ClassVar[ServiceKind]
    needs_shared_folder: ClassVar = False
    heeds_idempotency_key: ClassVar = True  # the same key, the same work: so a call that broke may be sent again
    health_path: ClassVar = "/health"
    files_path: str
    states: ClassVar[dict[str, WorkState]]

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    @abstractmethod
    def submit(self, request: Request, *, idempotency_key: str) -> WorkReport:
        """Hand the work over. May be repeated with the same key: the service does the work once."""

    def recover(self, request: Request, *, idempotency_key: str) -> WorkReport:
        """Find out what became of work whose hand-over was not answered.

        Handing it over once more tells, as the service does it once. Raises NotFoundError if it never got it: where it
        can be asked, which a 404 to a hand-over does not say.
        """
        try:
            return self.submit(request, idempotency_key=idempotency_key)
        except NotFoundError as error:
            raise TransientError(Reason.UNAVAILABLE, error.detail) from error

    @abstractmethod
    def report(self, remote_id: str) -> WorkReport:
        """Ask how the work is going."""

    def cancel(self, remote_id: str) -> None:
        """Ask the service to stop. Most have nothing that could be stopped."""

    def fetch(self, file_id: str) -> str:
        """Return the text of a file that the service made."""
        return self.ask(FileAnswer, "GET", f"{self.files_path}/{path_segment(file_id)}").content

    def ask(self, kind: type[A], method: str, path: str, **options: Any) -> A:
        return parse(kind, self.ask_json(method, path, **options))

    def ask_json(self, method: str, path: str, **options: Any) -> Any:
        """Call the instance: nothing else here does, so that none forgets where it may be called."""
        base_url = self.instance.base_url
        return call(
            method,
            base_url + path,
            base_url=base_url,
            heeds_idempotency_key=self.heeds_idempotency_key,
            is_registered=self.instance.is_registered,
            **options,
        )

    @staticmethod
    def about(remote_id: str, report: WorkReport) -> WorkReport:
        """Return the report. Raises InvalidAnswerError if it is about other work than was asked after."""
        if report.remote_id != remote_id:
            raise InvalidAnswerError("id: it speaks of other work")
        return report

    @classmethod
    def state_of(cls, status: str) -> WorkState:
        """Raises InvalidAnswerError for a word that the contract does not have."""
        try:
            return cls.states[status.strip().lower()]
        except KeyError:
            raise InvalidAnswerError(f"status: {printable(status, 50)!r} is not in the contract") from None

    @classmethod
    def work_report(
        cls,
        *,
        remote_id: str,
        status: str,
        file_id: str | None,
        progress: float | None = None,
        error: str | None = None,
    ) -> WorkReport:
        """Return the report, checked for what every stage needs."""
        state = cls.state_of(status)
        path_segment(remote_id)
        if state is WorkState.DONE and not file_id:
            raise InvalidAnswerError("it reports success but names no file")
        if file_id:
            path_segment(file_id)
        whole = None if progress is None else int(min(max(progress, 0), 100))
        return WorkReport(remote_id, state, file_id or None, whole, printable(error or ""))


def parse(kind: type[A], answer: Any) -> A:
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "answer"
        raise InvalidAnswerError(f"{place}: {first['msg']}") from error


def path_segment(identifier: str) -> str:
    """Return an id that a service gave, quoted so that it stays one segment of a path."""
    if not identifier or len(identifier) > MAX_ID_LENGTH or identifier in (".", "..") or not identifier.isprintable():
        raise InvalidAnswerError("an id is empty, too long or not printable")
    return quote(identifier, safe="")
