"""What is kept long enough is deleted, in parts; what has not ended never is."""

from datetime import timedelta

import pytest
from django.utils import timezone

from commands import retention, tasks
from commands.models import Command, CommandEvent, CommandResult, Kept, Outcome, RetentionRule, RollupMark, StageRun
from commands.retention import prune
from commands.states import TERMINAL, Stage, Status
from commands.tests.keeping import DAY, ended, keep
from commands.tests.test_partitions import command_made_at
from files.models import StoredFile
from gateway.locks import alone
from tests.rows import STEPS, ended_command

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("counted")]


class TestCommands:
    def test_go_when_they_are_old_enough_and_not_a_moment_before(self, alice, at):
        keep(commands=10)
        now = timezone.now()
        at(now)
        command = ended_command(alice)
        Command.objects.filter(pk=command.pk).update(finished_at=now - 10 * DAY + timedelta(microseconds=1))
        assert prune().total() == 0
        Command.objects.filter(pk=command.pk).update(finished_at=now - 10 * DAY)
        at(now)
        RetentionRule.objects.update(done_at=None)
        assert prune() == {"commands": 1}
        assert not Command.objects.exists()

    def test_go_when_they_are_counted_for_good_and_not_before(self, alice):
        keep(commands=10)
        noon = (timezone.now() - 20 * DAY).replace(hour=12, minute=0, second=0, microsecond=0)
        for late in (-timedelta(microseconds=1), timedelta()):
            Command.objects.filter(pk=ended_command(alice).pk).update(finished_at=noon + late)
        RollupMark.objects.update(until=noon + timedelta(minutes=9))  # so the hour before is counted anew
        assert prune().total() == 0
        RollupMark.objects.update(until=noon + timedelta(minutes=10))
        assert prune() == {"commands": 1}
        RollupMark.objects.update(until=noon + timedelta(minutes=70))
        assert prune() == {"commands": 1}

    def test_go_with_all_that_belongs_to_them(self, alice):
        keep(commands=10)
        kept = ended(alice, 9 * DAY)
        retry = Command.objects.create(user=alice, due_at=timezone.now())
        old = ended(alice, 11 * DAY)
        Command.objects.filter(pk=retry.pk).update(retry_of=old)
        tasks.delete_old()
        retry.refresh_from_db()
        assert retry.retry_of is None
        assert set(Command.objects.values_list("pk", flat=True)) == {kept.pk, retry.pk}
        for model in (CommandEvent, StageRun, CommandResult):
            assert set(model.objects.values_list("command_id", flat=True)) == {kept.pk}
        assert set(StoredFile.objects.values_list("pk", flat=True)) == {file.pk for file in kept.files}

    def test_go_by_the_rule_of_how_they_ended(self, alice):
        days = {Status.COMPLETED: 30, Status.FAILED: 20, Status.CANCELLED: None}
        for status, number in days.items():
            RetentionRule.objects.filter(what=Kept.COMMANDS, status=status).update(keep_days=number)
        for age in (15, 25, 35):
            for status in TERMINAL:
                ended(alice, age * DAY, status)
        prune()
        left = Command.objects.order_by("finished_at").values_list("status", "finished_at")
        ages = [(status, (timezone.now() - moment).days) for status, moment in left]
        assert sorted(ages) == [
            ("cancelled", 15), ("cancelled", 25), ("cancelled", 35),
            ("completed", 15), ("completed", 25), ("failed", 15),
        ]  # fmt: skip

    def test_that_have_not_ended_stay_however_old_they_are(self, alice):
        keep(commands=1, events=1, stage_runs=1, files=1)
        long_ago = timezone.now() - 1000 * DAY
        command = command_made_at(long_ago, alice, events=3)
        file = ended(alice, DAY / 2).alt_file
        Command.objects.filter(pk=command.pk).update(status=Status.RUNNING, created_at=long_ago, alt_file=file)
        StageRun.objects.create(command=command, stage=Stage.RUNNER, attempt=1, idempotency_key="k")
        CommandEvent.objects.update(at=long_ago)
        prune()
        command.refresh_from_db()
        assert command.alt_file == file
        assert (command.events.count(), command.stage_runs.count()) == (3, 1)

    def test_are_kept_for_ever_if_nobody_says_otherwise(self, alice):
        keep()
        ended(alice, 10_000 * DAY)
        assert prune().total() == 0
        assert Command.objects.count() == 1

    def test_steps_are_kept_like_others(self, alice):
        keep(commands=10)
        for age in (9, 11):
            Command.objects.filter(pk=ended(alice, age * DAY).pk).update(only_stage=Stage.ARCHIVE)
        assert prune() == {"commands": 1}


class TestParts:
    def test_events_go_before_their_command(self, alice, api):
        keep(events=10)
        RetentionRule.objects.filter(what=Kept.EVENTS, status=Status.FAILED).update(keep_days=100)
        old, young = ended(alice, 11 * DAY), ended(alice, 9 * DAY)
        assert prune() == {"events": len(STEPS)}
        assert (old.events.count(), young.events.count()) == (0, len(STEPS))
        answer = api(alice).get(f"/api/v2/commands/{old.pk}/events").json()
        assert answer == {"results": [], "next": None, "previous": None}
        assert api(alice).get(f"/api/v2/commands/{old.pk}/timeline").json()["results"] != []

    def test_tries_go_but_for_those_that_the_search_in_the_archive_needs(self, alice, api):
        keep(stage_runs=10)
        old, young = ended(alice, 11 * DAY), ended(alice, 9 * DAY)
        StageRun.objects.create(
            command=old, stage=Stage.ARCHIVE, attempt=2, idempotency_key="k", outcome=Outcome.FAILED
        )
        assert prune() == {"stage_runs": 3}
        assert list(old.stage_runs.values_list("stage", "outcome")) == [("archive", "succeeded")]
        assert young.stage_runs.count() == 3
        assert api(alice).get(f"/api/v2/commands/{old.pk}/timeline").status_code == 200

    def test_files_go_before_their_command(self, alice, api):
        keep(files=10)
        old, young = ended(alice, 11 * DAY), ended(alice, 9 * DAY)
        assert prune() == {"files": 3}
        assert set(StoredFile.objects.values_list("pk", flat=True)) == {file.pk for file in young.files}
        answer = api(alice).get(f"/api/v2/commands/{old.pk}")
        assert (answer.status_code, answer.json()["status"]) == (200, "completed")


class TestBatches:
    """It is done in parts, and whoever dies has done a part."""

    @pytest.mark.parametrize("what", ["commands", "stage_runs"])
    def test_batch_by_batch_though_all_ended_at_the_same_moment(self, alice, what):
        keep(**{what: 10})
        for _ in range(7):
            ended(alice, 20 * DAY)
        Command.objects.update(finished_at=timezone.now() - 20 * DAY)
        expected = {"commands": 7, "stage_runs": 14}[what]
        assert prune(batch=3) == {what: expected}
        assert RetentionRule.objects.get(what=what, status=Status.COMPLETED).deleted == expected
        assert prune(batch=3).total() == 0

    def test_time_is_up(self, alice):
        keep(commands=10)
        ended(alice, 20 * DAY)
        assert prune(seconds=0).total() == 0
        assert Command.objects.count() == 1

    def test_one_that_dies_midway_goes_on_from_there(self, alice, monkeypatch):
        keep(events=1)
        RetentionRule.objects.filter(status=Status.FAILED, what=Kept.EVENTS).update(keep_days=2)
        commands = [ended(alice, (20 - number) * DAY) for number in range(6)]
        seen = []

        def die_at_the_third(command_ids):
            if len(seen) == 2:
                raise KeyboardInterrupt
            seen.append(command_ids)
            return CommandEvent.objects.filter(command_id__in=command_ids).delete()[0]

        monkeypatch.setitem(retention._DELETE, Kept.EVENTS, die_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            prune(batch=2)
        assert [command.events.count() for command in commands] == [0, 0, 0, 0, 5, 5]
        seen.clear()
        prune(batch=2)
        assert [set(ids) for ids in seen] == [{commands[4].pk, commands[5].pk}]
        assert not CommandEvent.objects.exists()

    def test_nothing_is_looked_at_twice(self, alice, at):
        keep(stage_runs=10)
        now = timezone.now()
        command, later = ended(alice, 11 * DAY), ended(alice, 9 * DAY)
        prune()
        StageRun.objects.create(command=command, stage=Stage.RUNNER, attempt=9, idempotency_key="k")
        assert prune().total() == 0
        at(now + 2 * DAY)
        assert prune() == {"stage_runs": 2}
        assert later.stage_runs.count() == 1

    def test_a_second_one_at_the_same_time_has_nothing_to_do(self, alice):
        keep(commands=10)
        ended(alice, 20 * DAY)
        with alone("prune", lasts=60):
            assert prune().total() == 0
        assert prune().total() == 1
