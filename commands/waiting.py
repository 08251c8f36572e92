"""What a command that has not finished waits for: one plain sentence, true now, in the reader's language.

Each explanation below knows one reason and returns None if it is another. The first that knows speaks: what concerns
this command alone comes before what concerns all, and what is certain before what is likely.

Times are UTC. Every sentence is translated as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from commands.failures import failure_sentence
from commands.models import Command, StageRun
from commands.pipeline.attempts import instance_that_may_have_it, retry_window
from commands.queue import held_behind, queue_place
from commands.states import Stage, Status
from gateway.health import WORKER_SILENCE_LIMIT, heard_of_workers
from integrations.models import ServiceInstance, ServiceKind
from integrations.outages import Lack, outage_of

COUNTED = 1000  # commands.queue counts no further


@dataclass(frozen=True)
class Situation:
    """What is known of a command. `runs` are its tries, oldest first; `services` the instances that there are."""

    command: Command
    runs: list[StageRun]
    services: list[ServiceInstance]
    cancelling_since: datetime | None
    now: datetime

    @property
    def stage(self) -> Stage:
        return self.command.work_stage

    @property
    def service(self) -> str:
        return str(self.stage.label)

    @property
    def latest(self) -> StageRun | None:
        """The newest try of the present stage."""
        return next((run for run in reversed(self.runs) if run.stage == self.command.stage), None)

    @property
    def is_due(self) -> bool:
        return self.command.due_at is not None and self.command.due_at <= self.now

    @property
    def is_leased(self) -> bool:
        """Whether a worker is at it."""
        return self.command.lease_expires_at is not None and self.command.lease_expires_at > self.now

    def time(self, moment: datetime) -> str:
        """Write a time, with its day if that is another than today."""
        same_day = moment.astimezone(UTC).date() == self.now.astimezone(UTC).date()
        return moment.astimezone(UTC).strftime("%H:%M:%S UTC" if same_day else "%Y-%m-%d %H:%M:%S UTC")

    @property
    def due(self) -> str:
        return self.time(self.command.due_at or self.now)


def waiting_for(situation: Situation) -> str | None:
    """Return what the command waits for; None when it has ended."""
    if situation.command.has_ended:
        return None
    found = (explain(situation) for explain in _EXPLANATIONS)
    sentence = next((each for each in found if each is not None), "")
    deadline = situation.command.deadline
    if deadline is None or deadline <= situation.now or situation.command.status == Status.CANCELLING:
        return sentence
    return _("%(sentence)s It is stopped if it has not ended by %(deadline)s.") % {
        "sentence": sentence,
        "deadline": situation.time(deadline),
    }


_LACKS = {
    Lack.INSTANCE: gettext_lazy(
        "It waits for a %(service)s instance: none is registered. The next try is due at %(due)s."
    ),
    Lack.TAG: gettext_lazy(
        "It waits for a %(service)s instance with the tag “%(tag)s”: none that is registered has it."
        " The next try is due at %(due)s."
    ),
    Lack.IN_USE: gettext_lazy(
        "It waits for a %(service)s instance that takes work: %(unused)s of %(unused)s are draining or disabled."
        " The next try is due at %(due)s."
    ),
    Lack.CLOSED_BREAKER: gettext_lazy(
        "The %(service)s instances are left alone for a moment, after calls that failed."
        " The next try is due at %(due)s."
    ),
}
_ALL_DOWN = gettext_lazy(
    "It waits for a healthy %(service)s instance: %(down)s of %(total)s are down since %(since)s."
    " The next try is due at %(due)s."
)
_OTHERS_UNUSED = gettext_lazy(
    "It waits for a healthy %(service)s instance: %(down)s of %(total)s are down since %(since)s, and"
    " %(unused)s more are draining or disabled. The next try is due at %(due)s."
)
_SINCE_UNKNOWN = gettext_lazy(
    "It waits for a healthy %(service)s instance: %(down)s of %(total)s are down. The next try is due at %(due)s."
)


def _held(situation: Situation) -> str | None:
    if not situation.command.held:
        return None
    in_flight, limit, ahead = held_behind(situation.command)
    return _(
        "It is held back: its owner has %(in_flight)s commands in flight, and the limit is %(limit)s;"
        " %(ahead)s more of theirs go first."
    ) % {"in_flight": in_flight, "limit": limit, "ahead": ahead}


def _no_workers(situation: Situation) -> str | None:
    """Say that nobody is there to do what is due."""
    command, silence = situation.command, timedelta(seconds=WORKER_SILENCE_LIMIT)
    if situation.is_leased or command.due_at is None or situation.now - command.due_at < silence:
        return None
    heard = heard_of_workers(situation.stage)
    if heard is None:
        return _(
            "It has been due since %(due)s, but no worker of the %(service)s queue has been heard of for a long time."
        ) % {"due": situation.due, "service": situation.service}
    if situation.now - heard < silence:
        return None
    return _(
        "It has been due since %(due)s, but no worker of the %(service)s queue has been heard of since %(heard)s."
    ) % {"due": situation.due, "service": situation.service, "heard": situation.time(heard)}


def _worker_died(situation: Situation) -> str | None:
    expired_at = situation.command.lease_expires_at
    if situation.is_leased or expired_at is None:
        return None
    return _("The worker that had it has not been heard of since %(since)s; another one is to take it over.") % {
        "since": situation.time(expired_at)
    }


def _cancelling(situation: Situation) -> str | None:
    if situation.command.status != Status.CANCELLING:
        return None
    runs = [run for run in situation.runs if run.stage == situation.stage]
    if situation.stage is not Stage.RUNNER or not instance_that_may_have_it(runs):
        return _("It is being cancelled: a worker of the %(service)s queue is to end it.") % {
            "service": situation.service
        }
    since = situation.cancelling_since or situation.now
    return _(
        "It is being cancelled: since %(since)s the runner is to confirm that it stopped. If it has not by %(until)s,"
        " the command ends without that."
    ) % {"since": situation.time(since), "until": situation.time(since + retry_window())}


def _deadline_passed(situation: Situation) -> str | None:
    deadline = situation.command.deadline
    if deadline is None or deadline > situation.now:
        return None
    return _("Its deadline passed at %(deadline)s; a worker of the %(service)s queue is to end it.") % {
        "deadline": situation.time(deadline),
        "service": situation.service,
    }


def _service_has_it(situation: Situation) -> str | None:
    """Say how the service is doing with it."""
    run = situation.latest
    if run is None or run.finished_at is not None or not run.remote_id:
        return None
    names = {"service": situation.service, "instance": run.instance}
    if run.unanswered_since is not None:
        return _(
            "The %(service)s service at %(instance)s has the work, but has not answered since %(since)s;"
            " it is asked again until %(until)s."
        ) % {
            **names,
            "since": situation.time(run.unanswered_since),
            "until": situation.time(run.unanswered_since + retry_window()),
        }
    if run.reported is not None:
        return _("The %(service)s service at %(instance)s says that it is done; its answer is being fetched.") % names
    return _(
        "The %(service)s service at %(instance)s has been working on it since %(since)s;"
        " the command is at %(progress)s %%."
    ) % {**names, "since": situation.time(run.started_at), "progress": situation.command.progress}


def _worker_at_it(situation: Situation) -> str | None:
    if not situation.is_leased:
        return None
    run = situation.latest
    if run is None or run.finished_at is not None:
        return _("A worker of the %(service)s queue is at it.") % {"service": situation.service}
    return _("A worker has been handing it to the %(service)s service at %(instance)s since %(since)s.") % {
        "service": situation.service,
        "instance": run.instance,
        "since": situation.time(run.started_at),
    }


def _outage(situation: Situation) -> str | None:
    """Say why a further try cannot succeed now. Before the first one, nobody has looked for an instance yet."""
    if situation.latest is None:
        return None
    services = [row for row in situation.services if row.kind == situation.stage and row.left_at is None]
    outage = outage_of(ServiceKind(situation.stage), services, tag=situation.command.target)
    if outage is None:
        return None
    if outage.lack is Lack.HEALTHY:
        sentence = _SINCE_UNKNOWN if outage.since is None else _OTHERS_UNUSED if outage.unused else _ALL_DOWN
    else:
        sentence = _LACKS[outage.lack]
    return sentence % {
        "service": situation.service,
        "tag": situation.command.target,
        "down": outage.down,
        "total": outage.total,
        "unused": outage.unused,
        "since": situation.time(outage.since or situation.now),
        "due": situation.due,
    }


def _busy(situation: Situation) -> str | None:
    run = situation.latest
    if run is None or not run.found_service_busy:
        return None
    return _(
        "Since %(since)s it waits for the %(service)s service, which has as many calls as it may have at once"
        " (%(limit)s for each instance). The next try is due at %(due)s."
    ) % {
        "since": situation.time(run.started_at),
        "service": situation.service,
        "limit": settings.SERVICE_MAX_IN_FLIGHT,
        "due": situation.due,
    }


def _retry(situation: Situation) -> str | None:
    run = situation.latest
    if run is None or run.finished_at is None or situation.is_due:
        return None
    return _("Try %(number)s of the %(service)s stage is due at %(due)s. The one before: %(error)s") % {
        "number": run.attempt + 1,
        "service": situation.service,
        "due": situation.due,
        "error": failure_sentence(run.error_code, run.stage, run.error_cause),
    }


def _in_queue(situation: Situation) -> str | None:
    place = queue_place(situation.command)
    names = {"service": situation.service, "place": place}
    if place is None:
        return None
    if place == 1:
        return _("It is the next that a worker of the %(service)s queue takes up.") % names
    if place >= COUNTED:
        return _("At least %(ahead)s commands are before it in the %(service)s queue.") % {
            "service": situation.service,
            "ahead": COUNTED - 1,
        }
    return _("It is number %(place)s in the %(service)s queue.") % names


def _otherwise(situation: Situation) -> str:
    if situation.is_due:
        return _("A worker of the %(service)s queue is to take it up.") % {"service": situation.service}
    return _("A worker of the %(service)s queue looks at it at %(due)s.") % {
        "service": situation.service,
        "due": situation.due,
    }


_EXPLANATIONS: tuple[Callable[[Situation], str | None], ...] = (
    _held,
    _no_workers,
    _worker_died,
    _cancelling,
    _deadline_passed,
    _service_has_it,
    _worker_at_it,
    _outage,
    _busy,
    _retry,
    _in_queue,
    _otherwise,
)
