"""The page of one command: how it stands, what it waits for, and everything that happened, in order.

However much that is: events come a page at a time, found by their numbers, and each page has the tries that began
between its events.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models.functions import Left
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from commands.failures import failure_sentence
from commands.models import Command, CommandEvent, CommandResult, Outcome, StageRun
from commands.queue import queue_place
from commands.states import Stage, Status
from commands.timeline import Timeline, command_timeline
from files.models import StoredFile
from gateway.admin.model_admin import page_link

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

EVENTS_PER_PAGE = 100
RETRIES_SHOWN = 10
OUTPUT_SHOWN = 20_000  # characters
STATUS_COLOURS: dict[str, str] = {
    Status.COMPLETED: "success",
    Status.FAILED: "danger",
    Status.CANCELLED: "",
    Status.CANCELLING: "warning",
    Status.QUEUED: "",
}
OUTCOME_COLOURS: dict[str, str] = {
    Outcome.SUCCEEDED: "success",
    Outcome.FAILED: "danger",
    Outcome.ABANDONED: "warning",
    Outcome.CANCELLED: "",
}


@dataclass(frozen=True)
class Row:
    """One line of the table: something that happened, or a try and how it went."""

    at: datetime
    after: timedelta
    name: "StrOrPromise"
    label: "StrOrPromise" = ""
    colour: str = ""
    took: str = ""
    where: SafeString | str = ""
    notes: "list[StrOrPromise]" = field(default_factory=list)
    is_try: bool = False

    @property
    def time(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S}.{self.at.microsecond // 1000:03}"

    @property
    def after_text(self) -> str:
        return f"+{duration_text(self.after)}"


@dataclass(frozen=True)
class Story:
    command: Command
    timeline: Timeline
    rows: list[Row]
    page: int
    pages: int

    @property
    def status_colour(self) -> str:
        return STATUS_COLOURS.get(self.command.status, "info")

    @property
    def error(self) -> str:
        command = self.command
        if not command.error_code:
            return ""
        return failure_sentence(command.error_code, command.error_stage, command.error_cause)

    @property
    def took(self) -> str:
        return duration_text((self.command.finished_at or timezone.now()) - self.command.created_at)

    @property
    def user(self) -> SafeString | str:
        return page_link(self.command.user)

    @property
    def files(self) -> list[SafeString | str]:
        return [page_link(file, f"{file.name} ({file.kind})") for file in self.command.files]

    @cached_property
    def retries(self) -> list[SafeString | str]:
        newest = self.command.retries.order_by("-pk")[:RETRIES_SHOWN]
        return [page_link(retry, f"{retry.pk} ({retry.get_status_display()})") for retry in newest]

    @property
    def retry_of(self) -> SafeString | str:
        return page_link(self.command.retry_of, str(self.command.retry_of_id)) if self.command.retry_of else ""

    @cached_property
    def queue_place(self) -> int | None:
        return None if self.command.has_ended else queue_place(self.command)

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """What came out; of a long output, how it begins."""
        found = CommandResult.objects.filter(command=self.command)
        return found.values(
            "success_rate", shown_summary=Left("summary", OUTPUT_SHOWN), shown_output=Left("output", OUTPUT_SHOWN)
        ).first()

    @property
    def neighbours(self) -> list[tuple[int, "StrOrPromise"]]:
        """The other pages that one may want."""
        found = [(1, _("First")), (self.page - 1, _("Previous")), (self.page + 1, _("Next")), (self.pages, _("Last"))]
        return [(page, name) for page, name in found if 1 <= page <= self.pages and page != self.page]


def story_of(command: Command, *, page: str = "") -> Story:
    """Return a page of what happened, the last one by default: there it is told why a command is stuck."""
    timeline = command_timeline(command=command)
    pages = max(-(-command.last_seq // EVENTS_PER_PAGE), 1)
    number = min(max(int(page), 1), pages) if page.isdecimal() and len(page) < 10 else pages  # noqa: PLR2004
    rows = _rows(command, timeline, number, is_last=number == pages)
    return Story(command, timeline, rows, number, pages)


def _rows(command: Command, timeline: Timeline, page: int, *, is_last: bool) -> list[Row]:
    first = (page - 1) * EVENTS_PER_PAGE + 1
    numbers = (first, first + EVENTS_PER_PAGE)  # one more, which begins the next page
    events = list(command.events.filter(seq__range=numbers).order_by("seq"))
    until = None if is_last else next((event.at for event in events if event.seq == numbers[1]), None)
    events = [event for event in events if event.seq < numbers[1]]
    since = events[0].at if events and page > 1 else None
    tries = [
        run
        for run in timeline.runs
        if (since is None or run.started_at >= since) and (until is None or run.started_at < until)
    ]
    rows = [_row_of_event(command, event) for event in events] + [_row_of_try(command, timeline, run) for run in tries]
    return sorted(rows, key=lambda row: row.at)


def _row_of_event(command: Command, event: CommandEvent) -> Row:
    is_status = event.event in Status.values
    return Row(
        at=event.at,
        after=event.at - command.created_at,
        name=f"{event.seq}. {_event_name(event)}",
        label=event.get_status_display() if is_status else "",
        colour=STATUS_COLOURS.get(event.status, "info"),
        notes=_notes(event),
    )


def _event_name(event: CommandEvent) -> str:
    if event.event in Status.values:
        return _("is now")
    if event.event == "progress":
        return _("progress: %(percent)s %%") % {"percent": event.progress}
    names = {"retrying": _("is to be tried again"), "file": _("a file was left"), "requeued": _("was requeued")}
    return names.get(event.event, event.event)


def _notes(event: CommandEvent) -> "list[StrOrPromise]":
    """Return what is said of an event, in words."""
    data: dict[str, Any] = event.data
    notes: list[StrOrPromise] = []
    if data.get("code"):
        notes.append(failure_sentence(str(data["code"]), _stage(data.get("stage")), ""))
    if data.get("next_attempt_at"):
        notes.append(_("Next try at %(time)s.") % {"time": data["next_attempt_at"]})
    if isinstance(data.get("file"), dict):
        notes.append(_file_link(data["file"]))
    if data.get("retry_of"):
        notes.append(_command_link(str(data["retry_of"])))
    if data.get("by"):
        notes.append(_("By %(name)s.") % {"name": data["by"]})
    if data.get("reason"):
        notes.append(_("Reason: %(reason)s") % {"reason": data["reason"]})
    return notes


def _stage(name: Any) -> str:
    return name if name in Stage.values else ""


def _file_link(file: dict[str, Any]) -> SafeString | str:
    text = str(file.get("name", ""))
    try:
        return page_link(StoredFile(pk=UUID(str(file.get("id")))), text)
    except ValueError:
        return text


def _command_link(command_id: str) -> SafeString | str:
    try:
        return format_html("{} {}", _("Retry of"), page_link(Command(pk=UUID(command_id)), command_id))
    except ValueError:
        return command_id


def _row_of_try(command: Command, timeline: Timeline, run: StageRun) -> Row:
    notes: list[StrOrPromise] = []
    if run.error_code:
        notes.append(failure_sentence(run.error_code, run.stage, run.error_cause, of_a_try=True))
    if run.not_taken:
        notes.append(_("The instance did nothing of it."))
    if run.unanswered_since is not None and run.finished_at is None:
        notes.append(_("It has not answered since %(time)s.") % {"time": f"{run.unanswered_since:%H:%M:%S}"})
    if run.remote_id:
        notes.append(_("There it is called %(name)s.") % {"name": run.remote_id})
    duration = duration_text((run.finished_at or timezone.now()) - run.started_at)
    return Row(
        at=run.started_at,
        after=run.started_at - command.created_at,
        name=_("%(stage)s, try %(number)s") % {"stage": run.get_stage_display(), "number": run.attempt},
        label=run.get_outcome_display() if run.outcome else _("goes on"),
        colour=OUTCOME_COLOURS.get(run.outcome, "info"),
        took=duration if run.finished_at else _("%(duration)s so far") % {"duration": duration},
        where=_where(timeline, run),
        notes=notes,
        is_try=True,
    )


def _where(timeline: Timeline, run: StageRun) -> SafeString | str:
    service = timeline.service_of(run)
    if service is None:
        return run.instance
    return format_html("{} ({})", page_link(service, run.instance), service.state.label)


def duration_text(duration: timedelta) -> str:
    """Write how long something took, as exactly as one wants to know."""
    seconds = max(duration.total_seconds(), 0)
    if seconds < 1:
        return _("%(number)s ms") % {"number": round(seconds * 1000)}
    if seconds < 60:  # noqa: PLR2004 - a minute
        return _("%(number)s s") % {"number": f"{seconds:.1f}"}
    minutes, seconds = divmod(int(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return _("%(minutes)s min %(seconds)s s") % {"minutes": minutes, "seconds": seconds}
    hours, minutes = divmod(minutes, 60)
    if hours < 48:  # noqa: PLR2004 - two days
        return _("%(hours)s h %(minutes)s min") % {"hours": hours, "minutes": minutes}
    return _("%(days)s days %(hours)s h") % {"days": hours // 24, "hours": hours % 24}
