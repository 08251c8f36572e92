"""Runner B: it takes the path of a file, and leaves its result in a folder that it shares with the gateway.

It knows no Idempotency-Key and tells nothing of a run, so a repeat would run twice. What was handed over is therefore
written down in the folder before it is:

1. `<work>-<number>.alt` is what the runner reads. `<work>` stands for the key, the number counts the hand-overs.
2. Whoever makes `.<work>-<number>.claim` sends the request: only one worker can, whoever holds the lease.
3. `.<work>-<number>.accepted` says that the runner has answered that it takes it. Then nothing but its result counts.
4. If no answer came, nobody knows. The result is waited for, RUNNER_REPEAT_AFTER seconds; then comes the next number.
   Whichever of the hand-overs has a result first is the one that counts.

That there are no such records means something only in the runner's folder itself, which a file in it tells
from the empty folder that there is where nothing is mounted: `SENTINEL`.
"""

import hashlib
import json
import logging
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar

from django.conf import settings
from pydantic import StrictStr

from integrations.clients.base import Answer, WorkReport, WorkState, path_segment
from integrations.clients.errors import (
    InvalidAnswerError,
    NotFoundError,
    NotTakenError,
    PermanentError,
    Reason,
    ServiceError,
    TransientError,
)
from integrations.clients.http import MAX_ANSWER_BYTES, printable
from integrations.clients.runner import RunnerClient, RunRequest
from integrations.clients.shared_folder import Found, SharedFolder

logger = logging.getLogger(__name__)

PRIORITIES = {"low": "low", "normal": "medium", "medium": "medium", "high": "high", "critical": "critical"}
CLOCK_SKEW_SECONDS = 60  # between what the runner and the gateway write, on the clock of a file server
ENDS = {"success", "partialsuccess", "failure"}
SETTLED_SECONDS = 2 * CLOCK_SKEW_SECONDS  # a file that was not written for so long is as it is
SENTINEL = ".exchange"
_FIT_FOR_A_NAME = re.compile(r"[A-Za-z0-9:-]{1,100}")
_HANDED_OVER = re.compile(r"(?P<work>[A-Za-z0-9_-]+)-(?P<number>[0-9]{1,6})")


class ProcessAnswer(Answer):
    request_id: str
    alt_file_id: StrictStr


@dataclass(frozen=True)
class Result:
    work: str
    state: WorkState
    error: str


class Client(RunnerClient):
    needs_shared_folder: ClassVar = True
    heeds_idempotency_key: ClassVar = False
    health_path: ClassVar = "/api/v1/health"

    @property
    def folder(self) -> SharedFolder:
        return SharedFolder.of(self.kind)

    def submit(self, request: RunRequest, *, idempotency_key: str) -> WorkReport:
        work = work_name(idempotency_key)
        number = self._hand_overs(work)
        if number:
            with suppress(NotFoundError):  # given up: it is handed over again
                return self.report(f"{work}-{number}")
        name = f"{work}-{number + 1}"
        self.folder.write(f"{name}.alt", alt_text(request, name))
        if self.folder.claim(f".{name}.claim"):
            self._hand_over(request, name, idempotency_key)
        return WorkReport(name, WorkState.WORKING)

    def recover(self, request: RunRequest, *, idempotency_key: str) -> WorkReport:
        work = work_name(idempotency_key)
        number = self._hand_overs(work)
        if not number:
            raise NotFoundError("it was never given the work")
        name = f"{work}-{number}"
        return self._result(name, work) or WorkReport(name, WorkState.WORKING)

    def report(self, remote_id: str) -> WorkReport:
        match = _HANDED_OVER.fullmatch(remote_id)
        if match is None:
            raise NotFoundError("it was another service that had the work")
        result = self._result(remote_id, match["work"])
        if result is not None:
            return result
        if self.folder.modified(f".{remote_id}.accepted") is None:
            claimed_at = self._claimed_at(remote_id)
            if time.time() - claimed_at > settings.RUNNER_REPEAT_AFTER:
                raise NotFoundError("it neither accepted the work nor left a result")
        return WorkReport(remote_id, WorkState.WORKING)

    def cancel(self, remote_id: str) -> None:
        """It cannot be stopped. And what left no result for long may still be at work: that is no end, either."""
        try:
            self.report(remote_id)
        except NotFoundError as error:
            raise TransientError(Reason.UNAVAILABLE, "nobody knows whether it is at work") from error

    def fetch(self, file_id: str) -> str:
        """Read the result anew. Raises InvalidAnswerError if it is another work's by now."""
        remote_id, _, name = file_id.partition("/")
        match = _HANDED_OVER.fullmatch(remote_id)
        if match is None:
            raise NotFoundError("it was another service that had the file")
        text = self.folder.read(name)
        if parse_result(text).work != match["work"]:
            raise InvalidAnswerError("the file has become the result of other work")
        return text

    def _hand_over(self, request: RunRequest, name: str, idempotency_key: str) -> None:
        """Send the request. An error means that it certainly did not begin; no error, that it may have."""
        body = {
            "file_path": self.folder.remote_path(f"{name}.alt"),
            "priority": PRIORITIES.get(request.priority.lower(), "medium"),
            "mode": request.mode.lower(),
            "persona": request.persona,
        }
        try:
            answer = self.ask(ProcessAnswer, "POST", "/api/v1/process", body=body, idempotency_key=idempotency_key)
        except (NotTakenError, NotFoundError, PermanentError):
            with suppress(ServiceError):  # if it stays, the work is handed over again later than it could be
                self.folder.remove(f".{name}.claim")
            raise
        except ServiceError as error:
            logger.warning("nobody knows whether the runner began %s: %r", name, error)
            return
        if _stem(answer.alt_file_id) != name:
            logger.warning("nobody knows whether the runner began %s: it speaks of %r", name, answer.alt_file_id)
            return
        try:
            self.folder.claim(f".{name}.accepted")
        except ServiceError:
            logger.exception("the runner began %s, which could not be written down: it may be handed over again", name)

    def _hand_overs(self, work: str) -> int:
        """Return how often the work was handed over, as far as anybody knows."""
        number = 0
        while self.folder.modified(f".{work}-{number + 1}.claim") is not None:
            number += 1
        if not number and self.folder.modified(SENTINEL) is None:
            raise TransientError(Reason.UNAVAILABLE, f"the shared folder has no {SENTINEL}: is it mounted?")
        return number

    def _claimed_at(self, name: str) -> float:
        claimed_at = self.folder.modified(f".{name}.claim")
        if claimed_at is None:  # as when the folder is not mounted: then nobody may conclude anything
            raise TransientError(Reason.UNAVAILABLE, "the shared folder has lost the record of the work")
        return claimed_at

    def _result(self, remote_id: str, work: str) -> WorkReport | None:
        """Look for the result of any hand-over: the oldest, should there be several."""
        since = self._claimed_at(f"{work}-1") - CLOCK_SKEW_SECONDS
        give_up_at = time.monotonic() + settings.SERVICE_TIMEOUT
        for file in self.folder.plain_files("last_", ".json"):
            if file.modified < since:
                continue
            if time.monotonic() > give_up_at:
                raise TransientError(Reason.TIMEOUT, "the shared folder holds too much to look through")
            result = self._read(file, work)
            if result is not None and result.work == work:
                file_id = f"{remote_id}/{file.name}"  # says for `fetch` whose result it was
                path_segment(file_id)
                return WorkReport(remote_id, result.state, file_id, error=result.error)
        return None

    def _read(self, file: Found, work: str) -> Result | None:
        """Return what a file says, if it says anything: one that cannot be read must not hide the others."""
        try:
            if file.size <= MAX_ANSWER_BYTES:
                return _read_result(self.folder, file)
            head = self.folder.head(file.name)
        except (InvalidAnswerError, NotFoundError):  # not complete, no plain file, or gone since
            return None
        except TransientError as error:
            logger.warning("a result cannot be read: %s: %s", file.name, error)
            return None
        if f'"{work}-'.encode() in head:
            raise InvalidAnswerError("its result is too large")  # rather than wait for it for ever
        return None


@lru_cache(maxsize=10_000)
def _read_result(folder: SharedFolder, file: Found) -> Result | None:
    """Read whose result it is: once for each state of a file, as every run looks at those of all others.

    None for what is no result. Raises InvalidAnswerError, so that this is not remembered, if it may be being written.
    """
    try:
        path_segment(file.name)
        return parse_result(folder.read(file.name))
    except InvalidAnswerError:
        if time.time() - file.modified < SETTLED_SECONDS:
            raise
        return None


def parse_result(text: str) -> Result:
    """Read whose result a file is, and how it ended. Raises InvalidAnswerError if it does not say so."""
    try:
        last = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise InvalidAnswerError("the result is not JSON") from error
    if not isinstance(last, dict) or not isinstance(last.get("alt_file_id"), str):
        raise InvalidAnswerError("the result does not name its source")
    match = _HANDED_OVER.fullmatch(_stem(last["alt_file_id"]))
    status = str(last.get("status")).lower()
    if status not in ENDS:
        raise InvalidAnswerError("the result is of a run that goes on")
    failed = status == "failure"
    summary = last.get("summary")
    return Result(
        work=match["work"] if match else "",
        state=WorkState.FAILED if failed else WorkState.DONE,
        error=printable(summary) if failed and isinstance(summary, str) else "",
    )


def work_name(idempotency_key: str) -> str:
    """Return what stands for a key in names of files: the same for every try."""
    if _FIT_FOR_A_NAME.fullmatch(idempotency_key):
        return idempotency_key.replace(":", "_")
    return hashlib.sha256(idempotency_key.encode()).hexdigest()


def alt_text(request: RunRequest, name: str) -> str:
    """Return the `.alt` as the runner reads it, under a name that says what its result is the result of."""
    alt = json.loads(request.alt_content)
    for task in alt["tasks"]:
        priority = PRIORITIES.get(str(task.pop("priority", "")).lower())
        if priority is not None:
            task["priority"] = priority
    alt |= {
        "id": name,
        "created_at": _utc(alt.get("created_at")),
        "mode": request.mode.lower(),
        "persona": request.persona,
        "priority": PRIORITIES.get(request.priority.lower(), "medium"),
        "metadata": alt["metadata"] | {"source_alt_id": alt["id"], "parameters": request.parameters},
    }
    return json.dumps(alt)


def _utc(written: str | None) -> str:
    """Return a time with its zone: segments come with none, and mean UTC."""
    try:
        moment = datetime.fromisoformat(written or "")
    except ValueError:
        moment = datetime.now(UTC)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat().replace("+00:00", "Z")


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".alt")
