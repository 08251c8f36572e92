"""Statistics: what they say is what a count of all commands says, whenever the rollups were made."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.tests.people import person_with, role_with
from commands import rollups
from commands.models import Command, CommandRollup, Mode, RollupMark
from commands.rollups import HOUR, WITHIN, commands_roll_up, counted_for_good, hour_of
from commands.states import TERMINAL, Stage, Status
from commands.stats import command_stats
from gateway.api.errors import ErrorCode
from gateway.tests.expect import fields_of, problem_of

pytestmark = pytest.mark.django_db

STATS = "/api/v2/commands/stats"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONG_AGO, LATER = NOON - timedelta(days=400), NOON + timedelta(days=400)


@pytest.fixture
def clock(monkeypatch):
    """Let it be NOON, or any other time, for whoever counts."""

    class Clock:
        now = NOON

        def set(self, moment):
            self.now = moment

    clock = Clock()
    monkeypatch.setattr(timezone, "now", lambda: clock.now)
    return clock


def ended(user, finished_at=NOON, *, took=timedelta(seconds=1), status=Status.COMPLETED, **values):
    command = Command.objects.create(user=user, text="x", status=status, finished_at=finished_at, **values)
    Command.objects.filter(id=command.id).update(created_at=finished_at - took)
    command.created_at = finished_at - took
    return command


def summary(stats):
    took = stats.completed
    return {
        "status": +stats.by_status,
        "mode": +stats.by_mode,
        "error": +stats.by_error,
        "took": (took.number, took.total, took.longest, +took.within),
        "series": {at: +counts for at, counts in stats.series.items() if counts},
    }


def by_hand(commands, since, until, step):
    """Return the same summary, counted one by one."""
    commands = [each for each in commands if since <= each.finished_at < until and each.only_stage is None]
    took = [each.finished_at - each.created_at for each in commands if each.status == Status.COMPLETED]
    series = {}
    for each in commands:
        at = hour_of(each.finished_at) if step == "hour" else hour_of(each.finished_at).replace(hour=0)
        series.setdefault(at, Counter())[each.status] += 1
    return {
        "status": Counter(each.status for each in commands),
        "mode": Counter(each.mode for each in commands),
        "error": Counter(each.error_code for each in commands if each.error_code),
        "took": (
            len(took),
            sum(took, timedelta()),
            max(took, default=timedelta()),
            Counter(name for each in took for name, limit in WITHIN.items() if each <= limit),
        ),
        "series": series,
    }


@pytest.mark.parametrize("seed", range(4))
def test_they_are_what_a_count_of_all_gives_whenever_rollups_were_made(alice, bob, clock, seed):
    chance = random.Random(seed)  # noqa: S311 - for a test
    everything = []
    clock.set(NOON - timedelta(days=3))
    for _ in range(40):
        clock.set(clock.now + timedelta(minutes=chance.choice((0, 0, 1, 9, 40, 300))))
        for _ in range(chance.randrange(3)):
            status = chance.choice(sorted(TERMINAL))
            late = timedelta(seconds=chance.choice((0, 0, 5, 59, 300)))  # from the end to the commit
            everything.append(
                ended(
                    chance.choice((alice, bob)),
                    clock.now - late,
                    took=timedelta(milliseconds=chance.choice((100, 200, 201, 4000, 5000, 4_000_000))),
                    status=status,
                    mode=chance.choice((Mode.NORMAL, Mode.CHAOS)),
                    error_code=chance.choice(("a", "b")) if status == Status.FAILED else "",
                    only_stage=chance.choice((None, None, None, Stage.RUNNER)),
                )
            )
        for _ in range(chance.choice((0, 0, 1, 2))):
            commands_roll_up()
        if late_ones_are_counted(everything):
            check(chance, everything, alice)
    commands_roll_up()
    clock.set(clock.now + 2 * rollups.SETTLED)
    commands_roll_up()
    check(chance, everything, alice)


def late_ones_are_counted(everything):
    """What was committed more than SETTLED after its end is missing until the rollups are made again."""
    mark = RollupMark.objects.get().until
    rolled = CommandRollup.objects.values_list("number", flat=True)
    return sum(rolled) == sum(each.finished_at < mark and each.only_stage is None for each in everything)


def check(chance, everything, alice):
    since = hour_of(NOON - timedelta(hours=chance.randrange(20, 100)))
    until = since + timedelta(hours=chance.randrange(1, 200))
    step = chance.choice(("hour", "day"))
    for user in (alice.pk, None):
        commands = [each for each in everything if user is None or each.user == alice]
        stats = command_stats(user_id=user, since=since, until=until, interval=step)
        assert summary(stats) == by_hand(commands, since, until, step)
        plain = summary(command_stats(user_id=user, since=since, until=until))
        assert plain == by_hand(commands, since, until, step) | {"series": {}}


def test_all_that_there_was_before_is_counted_a_day_at_a_time(alice, clock, monkeypatch):
    for days in (0, 1, 2, 30, 31, 300):
        ended(alice, NOON - timedelta(days=days, minutes=5))
    since = []
    count = rollups._count
    monkeypatch.setattr(rollups, "_count", lambda **span: since.append(span["since"]) or count(**span))
    commands_roll_up()
    assert len(since) == 6
    assert RollupMark.objects.get().until == NOON - rollups.SETTLED
    assert CommandRollup.objects.count() == 6
    assert command_stats(user_id=alice.pk, since=LONG_AGO, until=LATER).ended == 6


def test_a_run_that_dies_has_counted_nothing_or_all(alice, clock, monkeypatch):
    ended(alice, NOON - HOUR)
    monkeypatch.setattr(RollupMark, "save", lambda _self: 1 / 0)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        commands_roll_up()
    assert CommandRollup.objects.count() == 0
    assert command_stats(user_id=alice.pk, since=LONG_AGO, until=LATER).ended == 1


def test_rollups_outlive_the_commands(alice, clock):
    ended(alice, NOON - timedelta(days=40))
    ended(alice, NOON - timedelta(minutes=2))
    commands_roll_up()
    assert counted_for_good() == NOON - HOUR
    Command.objects.filter(finished_at__lt=counted_for_good()).delete()
    clock.set(NOON + timedelta(minutes=5))
    commands_roll_up()
    assert command_stats(user_id=alice.pk, since=LONG_AGO, until=LATER).ended == 2


def test_what_was_committed_late_is_counted_with_the_next_run(alice, clock):
    commands_roll_up()
    ended(alice, NOON - 2 * rollups.SETTLED)
    commands_roll_up()  # even if nothing else has ended
    assert command_stats(user_id=alice.pk, since=LONG_AGO, until=LATER).ended == 0
    clock.set(NOON + timedelta(minutes=1))
    commands_roll_up()
    assert command_stats(user_id=alice.pk, since=LONG_AGO, until=LATER).ended == 1


@pytest.mark.django_db(transaction=True)
def test_several_runs_at_once_count_everything_once_and_nobody_sees_half_of_it(alice):
    now = timezone.now()
    for minutes in range(60):
        ended(alice, now - timedelta(minutes=20 * minutes))
    together = Barrier(4)

    def run(number):
        together.wait()
        try:
            if number % 2:
                commands_roll_up()
            return [command_stats(user_id=alice.pk, since=LONG_AGO, until=LATER).ended for _ in range(5)]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        seen = [number for numbers in threads.map(run, range(4)) for number in numbers]
    assert set(seen) == {60}
    assert sum(CommandRollup.objects.values_list("number", flat=True)) in (59, 60)  # one has just ended


# --- The endpoint ---------------------------------------------------------------------------------------------------


def test_the_answer(api, alice, bob):
    now = timezone.now()
    for took in (1, 1, 1, 9):
        ended(alice, now, took=timedelta(seconds=took))
    ended(alice, now, status=Status.FAILED, error_code="runner_timeout", mode=Mode.CHAOS)
    ended(alice, now, status=Status.CANCELLED)
    ended(alice, now - timedelta(days=8))
    ended(bob, now)
    for status in (Status.QUEUED, Status.RUNNING, Status.RUNNING):
        Command.objects.create(user=alice, text="x", status=status, due_at=now)
    answer = api(alice).get(STATS, {"interval": "day"}).json()
    until = hour_of(now) + HOUR
    assert datetime.fromisoformat(answer.pop("to")) == until
    assert datetime.fromisoformat(answer.pop("from")) == until - timedelta(days=7)
    series = answer.pop("series")
    assert len(series) == 8
    last = series[-1] if hour_of(now).date() == datetime.fromisoformat(series[-1]["at"]).date() else series[-2]
    assert (last["completed"], last["failed"], last["cancelled"]) == (4, 1, 1)
    assert answer == {
        "ended": 6,
        "by_status": {"completed": 4, "failed": 1, "cancelled": 1},
        "by_mode": {"normal": 5, "chaos": 1},
        "by_error": {"runner_timeout": 1},
        "success_rate": 0.8,
        "durations": {"mean_ms": 3000, "max_ms": 9000, "p50_ms": 1000, "p95_ms": 9000},
        "in_flight": {"queued": 1, "segmenting": 0, "running": 2, "archiving": 0, "cancelling": 0},
    }


def test_of_nothing_there_is_no_rate_and_no_duration(api, alice):
    answer = api(alice).get(STATS).json()
    assert (answer["ended"], answer["success_rate"], answer["series"]) == (0, None, [])
    assert set(answer["durations"].values()) == {None}
    assert answer["by_status"] == {"completed": 0, "failed": 0, "cancelled": 0}


def test_only_who_may_see_all_commands_gets_the_statistics_of_others(api, alice, bob, admin):
    ended(alice, timezone.now())
    ended(bob, timezone.now())
    clerk = person_with("clerk")
    clerk.groups.add(role_with("clerks", "commands.read_own_command", "commands.view_command"))

    def number(person, **query):
        return api(person).get(STATS, query).json()["ended"]

    for person in (admin, clerk):
        assert number(person, user="all") == 2
        assert number(person, user=str(alice.pk)) == 1
        assert number(person) == 0
    assert number(bob) == number(bob, user=str(bob.pk)) == 1
    for user in ("all", str(alice.pk)):
        answer = api(bob).get(STATS, {"user": user})
        assert (answer.status_code, answer.json()["code"]) == (403, ErrorCode.PERMISSION_DENIED)
        assert answer.json()["permission"] == "commands.view_command"
    problem_of(api(None).get(STATS), ErrorCode.NOT_AUTHENTICATED)


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ({"from": "today"}, {"from": "invalid"}),
        ({"to": "2026-11-24T10:00:00"}, {"to": "invalid"}),
        ({"from": "2026-11-24T10:00:00Z", "to": "2026-11-24T10:00:00Z"}, {"to": "invalid"}),
        ({"from": "9000-01-01T00:00:00Z"}, {"to": "invalid"}),
        ({"interval": "minute"}, {"interval": "invalid_choice"}),
        ({"from": "2026-01-01T00:00:00Z", "interval": "hour"}, {"interval": "invalid"}),
        ({"user": "everybody"}, {"user": "invalid"}),
        ({"status": "failed"}, {"status": "unknown_field"}),
    ],
)
def test_what_cannot_be_asked_for_is_named(api, alice, query, errors):
    assert fields_of(api(alice).get(STATS, query)) == errors


@pytest.mark.parametrize("query", [{"to": "1971-01-01T00:00:00Z"}, {"to": "9998-12-31T23:59:59Z"}])
def test_any_time_that_there_is_can_be_asked_for(api, alice, query):
    assert api(alice).get(STATS, query).status_code == 200


def test_whole_hours_are_counted(api, alice):
    ended(alice, NOON)
    client = api(alice)

    def number(since, until):
        return client.get(STATS, {"from": since.isoformat(), "to": until.isoformat()}).json()["ended"]

    minute = timedelta(minutes=1)
    assert number(NOON + minute, NOON + 2 * minute) == 1
    assert number(NOON - 2 * HOUR, NOON) == 0
    assert number(NOON - HOUR, NOON + minute) == 1


def test_they_cost_the_same_number_of_queries_however_much_there_is(alice, clock):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            command_stats(user_id=alice.pk, since=LONG_AGO, until=LATER, interval="day")
        return len(captured)

    few = queries()
    for hours in range(30):
        ended(alice, NOON - timedelta(hours=hours))
    assert queries() == few == 3
    commands_roll_up()
    assert queries() == few
