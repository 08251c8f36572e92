"""A month of events is dropped as a whole, once all of it is old enough."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from commands import tasks
from commands.models import Command, Kept, RetentionRule
from commands.partitions import Month, months, months_make
from commands.retention import LATE, old_months_drop, prune
from commands.states import Status
from commands.tests.keeping import DAY, keep
from commands.tests.test_partitions import command_made_at, on_postgresql

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("counted")]


@on_postgresql
class TestMonths:
    MARCH = Month(datetime(2026, 3, 1, tzinfo=UTC))

    @pytest.fixture
    def march(self, alice):
        """Two commands of March that ended within it."""
        commands = [command_made_at(self.MARCH.start + days * DAY, alice, events=2) for days in (0, 30)]
        for command in commands:
            Command.objects.filter(pk=command.pk).update(
                status=Status.COMPLETED, finished_at=command.due_at + DAY / 2, due_at=None
            )
        months_make()
        return commands

    def test_a_month_is_dropped_when_all_of_it_is_old_enough(self, march):
        keep(events=10)
        assert old_months_drop(now=self.MARCH.end + 9 * DAY) == []
        assert old_months_drop(now=self.MARCH.end + 10 * DAY) == [self.MARCH]
        assert self.MARCH not in months()
        assert [command.events.count() for command in march] == [0, 0]
        assert Command.objects.count() == 2

    def test_until_then_its_events_are_left_to_that(self, march, at):
        keep(events=10)
        at(self.MARCH.end + 9 * DAY)
        assert prune().total() == 0
        at(self.MARCH.end + 10 * DAY + LATE)  # what held the month up does not hold up its events for ever
        assert prune() == {"events": 4}

    @pytest.mark.parametrize("change", [
        {"status": Status.RUNNING, "finished_at": None, "due_at": timezone.now()},
        {"finished_at": datetime(2026, 4, 5, tzinfo=UTC)},
        {"status": Status.FAILED},
    ])  # fmt: skip
    def test_a_command_that_is_not_old_enough_keeps_it(self, march, change):
        keep(events=10)
        RetentionRule.objects.filter(what=Kept.EVENTS, status=Status.FAILED).update(keep_days=11)
        Command.objects.filter(pk=march[1].pk).update(**change)
        now = self.MARCH.end + 11 * DAY - timedelta(hours=13)
        assert old_months_drop(now=now) == []
        assert march[1].events.count() == 2

    def test_it_is_kept_for_ever_if_that_is_the_rule(self, march):
        keep(events=10)
        RetentionRule.objects.filter(what=Kept.EVENTS, status=Status.FAILED).update(keep_days=None)
        assert old_months_drop(now=self.MARCH.end + 9999 * DAY) == []
        RetentionRule.objects.filter(what=Kept.COMMANDS).update(keep_days=20)
        assert old_months_drop(now=self.MARCH.end + 9999 * DAY)[0] == self.MARCH
        months_make()

    def test_by_beat(self, march):
        keep(events=1)
        tasks.keep_months()
        assert self.MARCH not in months()
        assert Month.of(timezone.now()) in months()
