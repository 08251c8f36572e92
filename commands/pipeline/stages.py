"""What is particular to each of the three stages: what is sent, what is made of the file that comes back."""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.urls import reverse

from commands.callbacks import callback_token
from commands.models import Command, CommandResult, Outcome, StageRun
from commands.results import result_of
from commands.states import Stage, Status
from files.formats import AltDocument, parse_alt, parse_atlas, parse_last
from files.models import Kind, StoredFile
from files.selectors import file_text
from gateway.rows import select
from integrations.clients.archive import ArchiveRequest
from integrations.clients.runner import RunRequest
from integrations.clients.segmentation import SegmentRequest

# How far a command has come, in percent, when a stage ends. Most of the time is the runner's.
AFTER_SEGMENTATION, AFTER_RUN, AFTER_ARCHIVE = 20, 85, 100


def progress_of_run(command: Command, percent: int) -> int:
    """Return the progress of the whole command, from the runner's own."""
    if command.only_stage:
        return percent
    return AFTER_SEGMENTATION + (AFTER_RUN - AFTER_SEGMENTATION) * percent // 100


def progress_before(stage: str | None) -> int:
    """Return how far a command is that begins with this stage; with the first, if None."""
    return {Stage.RUNNER: AFTER_SEGMENTATION, Stage.ARCHIVE: AFTER_RUN}.get(Stage(stage), 0) if stage else 0


class StageSpec(ABC):
    """One stage. `request` and `read` touch the storage, and so run outside of transactions."""

    kind: Kind
    file_field: str
    next_status: Status
    progress_after: int

    @abstractmethod
    def request(self, command: Command) -> Any:
        """Return what to send; the same for every try. Raises OSError if the storage fails."""

    @abstractmethod
    def read(self, command: Command, text: str) -> CommandResult | None:
        """Check the file that came back; return the result, not yet saved, if this is the file that holds it.

        Raises FormatError if the file is not what it should be.
        """

    def after(self, command: Command) -> tuple[Status, int]:
        """Return what the command is when the stage has ended, and its progress."""
        return (Status.COMPLETED, AFTER_ARCHIVE) if command.only_stage else (self.next_status, self.progress_after)


class SegmentationStage(StageSpec):
    kind = Kind.ALT
    file_field = "alt_file"
    next_status = Status.RUNNING
    progress_after = AFTER_SEGMENTATION

    def request(self, command: Command) -> SegmentRequest:
        metadata = dict(command.metadata)
        if command.chaos_level is not None:
            metadata["chaos_level"] = command.chaos_level
        return SegmentRequest(command.text, command.mode, command.persona, str(command.user_id), metadata)

    def read(self, command: Command, text: str) -> None:
        parse_alt(text)


class RunnerStage(StageSpec):
    kind = Kind.LAST
    file_field = "last_file"
    next_status = Status.ARCHIVING
    progress_after = AFTER_RUN

    def request(self, command: Command) -> RunRequest:
        file = _file_of(command, "alt_file")
        path = reverse("runner-callback", args=[callback_token(command.id, Stage.RUNNER)])
        return RunRequest(
            alt_file_id=_file_id(command, file, made_by=Stage.SEGMENTATION),
            alt_content=_alt(file).to_tasks_json(),
            mode=command.mode,
            persona=command.persona,
            priority=command.priority,
            parameters=command.parameters,
            callback_url=settings.CALLBACK_BASE_URL.rstrip("/") + path,
        )

    def read(self, command: Command, text: str) -> CommandResult:
        return result_of(command, _alt(_file_of(command, "alt_file")), parse_last(text))


class ArchiveStage(StageSpec):
    kind = Kind.ATLAS
    file_field = "atlas_file"
    next_status = Status.COMPLETED
    progress_after = AFTER_ARCHIVE

    def request(self, command: Command) -> ArchiveRequest:
        file = _file_of(command, "last_file")
        text = file_text(file)
        given = command.metadata if command.only_stage else {}  # of a whole command, the segmentation service got it
        metadata = given | {
            "success_rate": parse_last(text).success_rate,
            "tags": command.tags,
            "command_id": str(command.id),
            "user_id": str(command.user_id),
        }
        return ArchiveRequest(_file_id(command, file, made_by=Stage.RUNNER), text, metadata)

    def read(self, command: Command, text: str) -> None:
        parse_atlas(text)


STAGES: dict[Stage, StageSpec] = {
    Stage.SEGMENTATION: SegmentationStage(),
    Stage.RUNNER: RunnerStage(),
    Stage.ARCHIVE: ArchiveStage(),
}


def _file_of(command: Command, name: str) -> StoredFile:
    """Return the file that an earlier stage ended with, or that a step was given. It is read once."""
    if name not in command._state.fields_cache:  # noqa: SLF001 - where Django keeps it
        [file] = select(StoredFile, {"id": getattr(command, f"{name}_id")})
        setattr(command, name, file)
    file = getattr(command, name)
    assert isinstance(file, StoredFile)  # noqa: S101 - the stage ended with one
    return file


@lru_cache(maxsize=1)
def _alt(file: StoredFile) -> AltDocument:
    """Return what a file says. Often it is asked twice for the same: for what is sent, and for what is made of it."""
    return parse_alt(file_text(file))


def _file_id(command: Command, file: StoredFile, *, made_by: Stage) -> str:
    """Return the name under which the service of an earlier stage keeps the file; ours, if there was no such stage.

    A retry has the file of the command that it repeats, or of the one that this repeats. None of them may be kept.
    """
    if command.only_stage:
        return str(file.id)
    for run in select(StageRun, {"command": command, "stage": made_by, "outcome": Outcome.SUCCEEDED}):
        return run.remote_file_id  # a stage succeeds once
    made = StageRun.objects.filter(stage=made_by, outcome=Outcome.SUCCEEDED)
    first = made.filter(**{f"command__{STAGES[made_by].file_field}": file}).last()
    return first.remote_file_id if first else str(file.id)
