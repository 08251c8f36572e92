"""Services in this process that keep a journal, and answer as a plan says: for tests that make thousands of calls."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

from files.tests.formats import samples
from integrations.clients.base import StageClient, WorkReport, WorkState
from integrations.clients.errors import InvalidAnswerError, NotFoundError, NotTakenError, Reason, TransientError
from integrations.registry import ServiceKind

FILES = {
    ServiceKind.SEGMENTATION: samples.sample(samples.TASKS_SAMPLE),
    ServiceKind.RUNNER: samples.last(),
    ServiceKind.ARCHIVE: samples.atlas(),
}
# Two of each, so that work which goes to another one after a failure shows. Nobody listens there.
URLS = {
    kind: [f"http://127.0.0.1:{port}" for port in (2 * place + 1, 2 * place + 2)] for place, kind in enumerate(FILES)
}
ANSWERS = ("good", "lost", "not taken", "nonsense", "error")


class Journal:
    """What all instances did, and how they will answer."""

    def __init__(self) -> None:
        self.pause: Callable[[str], None] = lambda _at: None
        self.forget()

    def forget(self) -> None:
        self.works: Counter[tuple[str, str]] = Counter()  # by key and instance
        self.tasks: dict[str, dict[str, Any]] = {}  # by id
        self.answers: Iterator[str] = iter(())

    def done_for(self, key: str) -> int:
        """Return how often the work of a key was done, wherever."""
        return sum(count for (each, _instance), count in self.works.items() if each == key)

    def runs(self, *, of: str) -> list[dict[str, Any]]:
        return [task for task in self.tasks.values() if task["key"] == f"{of}:runner"]

    def finish_runs(self) -> None:
        for task in self.tasks.values():
            if task["state"] is WorkState.WORKING:
                task["state"] = WorkState.DONE

    def news(self, *, of: str) -> dict[str, Any] | None:
        """Return what the runner would say of a run by itself."""
        words = {WorkState.WORKING: "running", WorkState.DONE: "completed", WorkState.CANCELLED: "cancelled"}
        for task in self.runs(of=of):
            return {"id": task["id"], "status": words[task["state"]], "lastFileId": task["id"], "progress": 50}
        return None


class FakeClient(StageClient[Any]):
    """One instance's. It does the work once per key, as the contract has it, before its answer may be lost."""

    journal: ClassVar = Journal()

    def submit(self, request: Any, *, idempotency_key: str) -> WorkReport:
        return cast("WorkReport", self._answer("hand over", lambda: self._work(idempotency_key)))

    def report(self, remote_id: str) -> WorkReport:
        return cast("WorkReport", self._answer("ask", lambda: self._of(remote_id)))

    def cancel(self, remote_id: str) -> None:
        def stop() -> None:
            task = self._task(remote_id)
            if task["state"] is WorkState.WORKING:
                task["state"] = WorkState.CANCELLED

        self._answer("cancel", stop)

    def fetch(self, file_id: str) -> str:
        return cast("str", self._answer("fetch", lambda: FILES[self.kind]))

    def _work(self, key: str) -> WorkReport:
        name = f"{key}@{self.instance.base_url[-1]}"
        if name not in self.journal.tasks:
            self.journal.works[key, self.instance.base_url] += 1
            state = WorkState.WORKING if self.kind is ServiceKind.RUNNER else WorkState.DONE
            self.journal.tasks[name] = {"id": name, "key": key, "state": state}
        return self._of(name)

    def _task(self, remote_id: str) -> dict[str, Any]:
        if remote_id not in self.journal.tasks or not remote_id.endswith(self.instance.base_url[-1]):
            raise NotFoundError
        task: dict[str, Any] = self.journal.tasks[remote_id]
        return task

    def _of(self, remote_id: str) -> WorkReport:
        state = self._task(remote_id)["state"]
        return WorkReport(remote_id, state, remote_id if state is not WorkState.WORKING else None)

    def _answer(self, call: str, act: Callable[[], Any]) -> Any:
        at = f"{call} ({self.kind})"
        self.journal.pause(f"before {at}")
        answer = next(self.journal.answers, "good")
        if answer == "not taken":
            raise NotTakenError(Reason.UNAVAILABLE)
        if answer == "error":
            raise TransientError(Reason.ERROR)
        said = act()
        self.journal.pause(f"after {at}: {answer}")
        if answer == "lost":
            raise TransientError(Reason.TIMEOUT)
        if answer == "nonsense":
            raise InvalidAnswerError("nonsense")
        return said


def fakes() -> dict[tuple[ServiceKind, str], type[StageClient[Any]]]:
    """Return what takes the place of integrations.clients.dialects.DIALECTS."""
    return {(kind, "standard"): type(f"Fake{kind}", (FakeClient,), {"kind": kind}) for kind in FILES}
