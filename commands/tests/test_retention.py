"""What is kept long enough is deleted, in parts; what has not ended, or is still needed, never is."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.db import connections
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.people import signed_in, staff
from commands import retention, retries, steps, tasks
from commands.models import Command, CommandEvent, CommandResult, Kept, Outcome, RetentionRule, RollupMark, StageRun
from commands.partitions import Month, months, months_make
from commands.retention import LATE, old_months_drop, prune
from commands.retention_rules import retention_change
from commands.states import TERMINAL, Stage, Status
from commands.tests.test_partitions import command_made_at, on_postgresql
from commands.tests.test_steps import ALT
from files.models import DeletedContent, StoredFile
from files.services import deleted_contents_remove
from files.tasks import remove_deleted_contents
from files.tests.rows import stored_file
from gateway.locks import alone
from gateway.tests.expect import fields_of
from tests.rows import STEPS, ended_command

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
PAGES = "/admin/commands/retentionrule/"


def keep(**days):
    """Keep these for so long, of commands that ended in any way, and the rest as long as there are commands."""
    for what in Kept.values:
        RetentionRule.objects.filter(what=what).update(keep_days=days.get(what), done_at=None, done_id=None)


def ended(user, age, status=Status.COMPLETED):
    command = ended_command(user)
    Command.objects.filter(pk=command.pk).update(status=status, finished_at=timezone.now() - age)
    return command


@pytest.fixture(autouse=True)
def counted(db):
    """Let everything be in the statistics."""
    RollupMark.objects.update(until=datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def at(monkeypatch):
    """Let it be this moment for retention."""

    def set_clock(moment):
        monkeypatch.setattr(retention.timezone, "now", lambda: moment)

    return set_clock


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


class TestKeptAnswers:
    """What was read a moment before, and is kept for the short way, is not told any more."""

    @pytest.fixture
    def alice_client(self, api, alice):
        client = api(alice)
        assert client.get("/api/v2/me").status_code == 200  # from now on it is known who she is
        return client

    @pytest.fixture
    def pruned(self, django_capture_on_commit_callbacks):
        def run():
            with django_capture_on_commit_callbacks(execute=True):
                prune()

        return run

    def test_of_a_command(self, alice, alice_client, pruned):
        keep(commands=10)
        old, retry = ended(alice, 11 * DAY), ended(alice, DAY)
        Command.objects.filter(pk=retry.pk).update(retry_of=old)
        paths = [f"/api/v2/commands/{command.pk}" for command in (old, retry)]
        assert [alice_client.get(path).status_code for path in paths] == [200, 200]
        pruned()
        assert alice_client.get(paths[0]).status_code == 404
        assert alice_client.get(paths[1]).json()["retry_of"] is None

    def test_of_its_files(self, alice, alice_client, pruned):
        keep(files=10)
        path = f"/api/v2/commands/{ended(alice, 11 * DAY).pk}"
        assert len(alice_client.get(path).json()["files"]) == 3
        pruned()
        assert alice_client.get(path).json()["files"] == []


class TestFiles:
    def test_stay_while_another_command_refers_to_them(self, alice):
        """As a retry does, or a step: be it at work, or kept for longer."""
        for days in ({"commands": 10}, {"files": 10}):
            keep(**days)
            old, retry = ended(alice, 11 * DAY), ended(alice, 9 * DAY)
            Command.objects.filter(pk=retry.pk).update(alt_file=old.alt_file)
            prune()
            assert StoredFile.objects.filter(pk=old.alt_file_id).exists()
            assert not StoredFile.objects.filter(pk=old.last_file_id).exists()
            Command.objects.filter(pk=retry.pk).update(finished_at=timezone.now() - 12 * DAY)
            RetentionRule.objects.update(done_at=None, done_id=None)  # it did not end that early really
            prune()
            assert not StoredFile.objects.filter(pk=old.alt_file_id).exists()

    def test_of_two_commands_that_go_together_go_once(self, alice):
        keep(commands=10)
        old, retry = ended(alice, 11 * DAY), ended(alice, 11 * DAY)
        Command.objects.filter(pk=retry.pk).update(alt_file=old.alt_file)
        retry.alt_file.delete()
        prune()
        assert not StoredFile.objects.exists()
        assert DeletedContent.objects.count() == 6

    def test_their_bytes_go_after_the_rows(self, alice):
        keep(commands=10)
        command, kept = ended(alice, 11 * DAY), ended(alice, 9 * DAY)
        names = [file.content.name for file in command.files]
        prune()
        assert all(default_storage.exists(name) for name in names)  # not before the commit
        remove_deleted_contents()
        assert not any(default_storage.exists(name) for name in names)
        assert all(default_storage.exists(file.content.name) for file in kept.files)
        assert not DeletedContent.objects.exists()

    def test_what_the_storage_does_not_remove_is_removed_later(self, alice, monkeypatch, caplog):
        keep(commands=10)
        names = [file.content.name for file in ended(alice, 11 * DAY).files]
        prune()
        delete = default_storage.delete

        def fail_for_one(name):
            if name == names[0]:
                raise OSError("the disk is read only")
            delete(name)

        with monkeypatch.context() as patch:
            patch.setattr(default_storage, "delete", fail_for_one)
            assert deleted_contents_remove() == 2
        assert "read only" in caplog.text
        assert [default_storage.exists(name) for name in names] == [True, False, False]
        assert deleted_contents_remove() == 1
        assert not default_storage.exists(names[0])

    def test_go_with_their_user(self, alice):
        names = [file.content.name for file in ended(alice, DAY).files]
        alice.delete()
        remove_deleted_contents()
        assert not any(default_storage.exists(name) for name in names)


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


@pytest.mark.django_db(transaction=True)
class TestConcurrency:
    @pytest.fixture(autouse=True)
    def _rules(self):
        keep(commands=10)

    @on_postgresql  # SQLite has one writer at a time
    def test_a_retry_that_begins_to_refer_to_a_file_meanwhile_keeps_it(self, alice, monkeypatch):
        """It commits between the look at who refers to the file and its deletion."""
        old, delete = ended(alice, 11 * DAY), retention.files_delete

        def refer():
            now = timezone.now()
            Command.objects.create(user=alice, alt_file=old.alt_file, due_at=now)
            connections.close_all()

        def late(*, ids):
            thread = threading.Thread(target=refer)
            thread.start()
            thread.join()
            return delete(ids=ids)

        with monkeypatch.context() as patch:
            patch.setattr(retention, "files_delete", late)
            assert prune().total() == 0
        assert Command.objects.filter(pk=old.pk).exists()  # nothing was deleted in part
        assert StoredFile.objects.count() == 3
        assert prune() == {"commands": 1}
        assert set(StoredFile.objects.values_list("pk", flat=True)) == {old.alt_file_id}

    @on_postgresql
    def test_the_files_of_what_is_retried_just_now_are_kept_for_that(self, alice, monkeypatch):
        old = ended(alice, 11 * DAY, status=Status.FAILED)
        keep(files=10)
        take_over = retries._take_over

        def prune_elsewhere():
            prune()
            connections.close_all()

        thread = threading.Thread(target=prune_elsewhere)

        def late(again, command):
            thread.start()
            thread.join(0.5)
            return take_over(again, command)

        monkeypatch.setattr(retries, "_take_over", late)
        again = retries.command_retry(user=alice, command=old)
        thread.join()
        again.refresh_from_db()
        old.refresh_from_db()
        assert (again.alt_file is None, old.alt_file) == (False, None)

    def test_a_step_whose_file_goes_meanwhile_is_refused_in_words(self, alice, api, monkeypatch):
        old = ended(alice, 11 * DAY)
        file = stored_file(alice, text=ALT)
        Command.objects.filter(pk=old.pk).update(alt_file=file)
        store = steps.command_store

        def late(command, **more):
            assert prune() == {"commands": 1}
            return store(command, **more)

        monkeypatch.setattr(steps, "command_store", late)
        answer = api(alice).post("/api/v2/runner", {"file": str(file.pk)})
        assert fields_of(answer) == {"file": "does_not_exist"}
        assert not Command.objects.exists()


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


class TestRules:
    def rule(self, what="events", status="completed"):
        return RetentionRule.objects.get(what=what, status=status)

    def test_there_is_one_for_everything(self):
        assert set(RetentionRule.objects.values_list("what", "status")) == {
            (what, status) for what in Kept.values for status in TERMINAL
        }

    def test_a_change_is_recorded_and_everything_is_looked_at_anew(self, admin):
        RetentionRule.objects.update(done_at=timezone.now())
        rule = retention_change(actor=admin, rule=self.rule(), keep_days=30, reason="the disk is full")
        assert (rule.keep_days, rule.done_at) == (30, None)
        entry = AuditEntry.objects.get(action="retention_changed")
        assert (entry.changes, entry.reason, entry.actor_name) == (
            {"keep_days": [90, 30]}, "the disk is full", "admin",
        )  # fmt: skip
        retention_change(actor=admin, rule=rule, keep_days=30)
        assert AuditEntry.objects.filter(action="retention_changed").count() == 1

    @pytest.mark.parametrize("days", [0, -1, 36_501])
    def test_days_have_bounds(self, admin, days):
        with pytest.raises(ValidationError) as error:
            retention_change(actor=admin, rule=self.rule("commands"), keep_days=days)
        assert error.value.message_dict.keys() == {"keep_days"}

    def test_nothing_outlives_its_command(self, admin):
        for what, days in (("events", 366), ("files", 366), ("commands", 89)):
            with pytest.raises(ValidationError, match="would be kept for"):
                retention_change(actor=admin, rule=self.rule(what), keep_days=days)
        retention_change(actor=admin, rule=self.rule("events"), keep_days=365)
        retention_change(actor=admin, rule=self.rule("commands"), keep_days=None)
        retention_change(actor=admin, rule=self.rule("events"), keep_days=36_500)
        retention_change(actor=admin, rule=self.rule("events", "failed"), keep_days=180)

    def test_administrators_change_it_with_a_reason(self, admin):
        client, rule = signed_in(admin), self.rule()
        assert "days" in client.get(PAGES).content.decode()
        page = f"{PAGES}{rule.pk}/change/"
        client.post(page, {"keep_days": "30", "reason": "full", "status": "failed", "deleted": "7"})
        rule.refresh_from_db()
        assert (rule.keep_days, rule.status, rule.deleted) == (30, "completed", 0)
        assert AuditEntry.objects.get(action="retention_changed").reason == "full"
        answer = client.post(page, {"keep_days": "999"})
        assert "would be kept for 999 days" in answer.content.decode()
        client.post(page, {"keep_days": "", "reason": "as long as the command"})
        rule.refresh_from_db()
        assert rule.keep_days is None

    def test_others_do_not(self, alice, bob, admin):
        rule = self.rule()
        onlooker, stranger = staff("commands.view_retentionrule"), signed_in(alice)
        for client in (onlooker, stranger, signed_in(bob)):
            client.post(f"{PAGES}{rule.pk}/change/", {"keep_days": "1"})
            client.post(f"{PAGES}{rule.pk}/delete/", {"confirmed": "yes", "reason": "x"})
            client.post(f"{PAGES}add/", {"what": "events", "status": "queued", "keep_days": "1"})
        for client in (onlooker, signed_in(admin)):
            assert client.get(f"{PAGES}{rule.pk}/change/").status_code == 200
            assert client.get(f"{PAGES}add/").status_code == 403
            assert client.get(f"{PAGES}{rule.pk}/delete/").status_code == 403
        assert stranger.get(PAGES).status_code in (302, 403)
        rule.refresh_from_db()
        assert rule.keep_days == 90
        assert RetentionRule.objects.count() == 12
