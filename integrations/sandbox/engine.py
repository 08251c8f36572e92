"""Doing what a plan says, task after task, so that being killed in between loses nothing recorded."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from typing import TYPE_CHECKING

from integrations.sandbox.actions import ACTION_NAMES, ActionError, find_action, perform, sleep_seconds
from integrations.sandbox.runs import Result, Run, build_last

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from integrations.sandbox.app import Sandbox
    from integrations.sandbox.callbacks import CallbackSender
    from integrations.sandbox.faults import CallbackKind
    from integrations.sandbox.plan import PlannedTask

SLEEP_STEP_SECONDS = 0.1
LATE_SECONDS = 5.0  # of a callback that comes late: it is known by then
RUN = "run"


class LiveRun:
    """A run that is not over, or whose end has not been reported yet."""

    def __init__(self, run: Run, results: dict[str, Result]) -> None:
        self.run = run
        self.results = results
        self.over = asyncio.Event()
        self.execution: asyncio.Task[None] | None = None
        self.task_started: float | None = None

    def advance(self, fraction: float = 0.0) -> None:
        """Set the progress from the tasks that ended and the part of the current one that is done."""
        self.run.progress = int(100 * (len(self.results) + fraction) / len(self.run.plan.tasks))

    def blocked_by(self, task: PlannedTask) -> str | None:
        """Return a dependency that did not succeed."""
        return next((name for name in task.dependencies if self.results[name].status != "success"), None)


class Engine:
    """Executes runs and keeps them: the run itself, and each task's result as soon as there is one."""

    def __init__(
        self, sandbox: Sandbox, callbacks: CallbackSender, publish: Callable[[str, str], None] | None = None
    ) -> None:
        """`publish` gets the id of each run that ended and its ``.last``; after a crash perhaps twice."""
        self._sandbox = sandbox
        self._store = sandbox.store
        self._callbacks = callbacks
        self._publish = publish
        self._live: dict[str, LiveRun] = {}
        self._background: set[asyncio.Task[None]] = set()

    def accept(self, run: Run) -> None:
        """Keep a new run; `start` sets it going once that is committed."""
        self._save(run)
        self._store.put("unfinished run", run.id, "")

    def start(self, run: Run, *, held: bool = False, bad_news: CallbackKind | None = None) -> None:
        """Set the run going; `held` is the fault of a run that never ends, `bad_news` one of how it tells of itself."""
        recorded = self._store.records(f"result of {run.id}")
        live = LiveRun(run, {name: Result.model_validate_json(body) for name, body in recorded})
        self._live[run.id] = live
        if run.is_over:  # its end was kept, but not yet told
            live.over.set()
        else:
            live.execution = self._spawn(self._execute(live, held=held))
        self._spawn(self._report(live, bad_news))

    def resume(self) -> None:
        """Take up every run a former process did not bring to its end."""
        for identity, _ in self._store.records("unfinished run"):
            run = self.find(identity)
            if run is not None:
                self.start(run)

    async def close(self) -> None:
        """Stop without ending any run: the next process resumes them."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def live_runs(self) -> int:
        return len(self._live)

    def find(self, identity: str) -> Run | None:
        live = self._live.get(identity)
        if live is not None:
            return live.run
        body = self._store.get(RUN, identity)
        return None if body is None else Run.model_validate_json(body)

    def cancel(self, run: Run) -> None:
        """End the run now; what was done stays in its ``.last``. A run that is over stays as it is."""
        live = self._live.get(run.id)
        if live is None or run.is_over:
            return
        if live.execution is not None:
            live.execution.cancel()
        for task in run.plan.tasks:
            if task.id not in live.results:
                self._record(live, task, Result(status="cancelled", duration_ms=_elapsed(live.task_started)))
                live.task_started = None  # only the first of them had begun
        self._finish(live, cancelled=True)

    async def _execute(self, live: LiveRun, *, held: bool) -> None:
        run = live.run
        run.start()
        self._save(run)
        if held:
            await self._sandbox.faults.wait_for_change()
        for task in run.plan.tasks:
            if task.id in live.results:
                continue
            blocker = live.blocked_by(task)
            if blocker is not None:
                result = Result(status="skipped", error=f"It depends on {blocker!r}, which did not succeed.")
            else:
                live.task_started = time.monotonic()
                result = await _do(task, live.advance)
                result.duration_ms = _elapsed(live.task_started)
            self._record(live, task, result)
            live.task_started = None
            live.advance()
            await asyncio.sleep(0)  # a long plan of instant tasks must not keep requests waiting
        self._finish(live, cancelled=False)

    def _record(self, live: LiveRun, task: PlannedTask, result: Result) -> None:
        live.results[task.id] = result
        self._store.put(f"result of {live.run.id}", task.id, result.model_dump_json())

    def _finish(self, live: LiveRun, *, cancelled: bool) -> None:
        run = live.run
        run.finish(live.results, cancelled=cancelled)
        last = build_last(run, live.results)
        text = json.dumps(last, ensure_ascii=False, indent=2)
        if self._publish is not None:
            self._publish(run.id, text)
        with self._store.transaction():
            self._sandbox.save_file(
                "last file",
                str(run.last_file_id),
                text,
                {"status": last["status"], "success_rate": last["success_rate"]},
            )
            self._save(run)
            self._store.delete(f"result of {run.id}")  # the .last has them now
        live.over.set()

    async def _report(self, live: LiveRun, bad_news: CallbackKind | None) -> None:
        run = live.run
        if run.callback_url is None or bad_news == "lost_callback":
            await live.over.wait()
        else:
            if bad_news == "late_callback":
                await live.over.wait()
                await asyncio.sleep(LATE_SECONDS)
            follow = partial(self._callbacks.follow, run.callback_url, run.request_id)
            before = run.public()
            await follow(run.public, live.over)
            if bad_news == "repeated_callback":  # and in disorder
                await follow(lambda: before, live.over)
                await follow(run.public, live.over)
        self._store.delete("unfinished run", run.id)
        self._live.pop(run.id, None)

    def _save(self, run: Run) -> None:
        self._store.put(RUN, run.id, run.model_dump_json())

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # The event loop itself keeps only weak references to its tasks.
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


async def _do(task: PlannedTask, report: Callable[[float], None]) -> Result:
    action = find_action(task.text)
    if action is None:
        known = ", ".join(sorted(ACTION_NAMES))
        error = f"The sandbox runner does not know this action; it only knows: {known}."
        return Result(status="not_executed", error=error)
    try:
        if action.name == "sleep":
            return Result(status="success", output=await _sleep(sleep_seconds(action.argument), report))
        return Result(status="success", output=perform(action))
    except ActionError as error:
        return Result(status="failed", error=str(error))


async def _sleep(seconds: float, report: Callable[[float], None]) -> str:
    start = time.monotonic()
    while (left := start + seconds - time.monotonic()) > 0:
        report(1 - left / seconds)
        await asyncio.sleep(min(left, SLEEP_STEP_SECONDS))
    return f"slept {seconds:g} s"


def _elapsed(start: float | None) -> int:
    return 0 if start is None else round((time.monotonic() - start) * 1000)
