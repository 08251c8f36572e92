"""Events by months: existing rows move, months are made ahead, and nothing fails where one is missing."""

import threading
from datetime import UTC, datetime, timedelta
from importlib import import_module
from uuid import UUID

import pytest
from django.db import connection, connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from commands.models import Command, CommandEvent
from commands.partitions import DEFAULT, MONTHS_AHEAD, TABLE, Month, month_drop, months, months_make
from gateway.ids import first_id_at, moment_of, new_id
from tests.rows import STEPS, ended_command

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no partitions")
MARCH = Month(datetime(2026, 3, 1, tzinfo=UTC))
migration = import_module("commands.migrations.0009_event_partitions")


def rows_in(table):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608
        return cursor.fetchone()[0]


def command_made_at(moment, user, events=1):
    made = UUID(int=first_id_at(moment).int + new_id().int % 2**64)
    command = Command.objects.create(id=made, user=user, due_at=moment, last_seq=events)
    CommandEvent.objects.bulk_create(
        CommandEvent(command=command, seq=seq, event="progress", status="running", progress=0)
        for seq in range(1, events + 1)
    )
    return command


def without_months_ahead():
    for month in months():
        month_drop(month)


class TestMonths:
    def test_a_month_ends_where_the_next_one_begins(self):
        december = Month.of(datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
        assert december.start == datetime(2026, 12, 1, tzinfo=UTC)
        assert december.end == december.following.start == datetime(2027, 1, 1, tzinfo=UTC)
        first, end = december.ids
        assert (moment_of(first), moment_of(end)) == (december.start, december.end)

    def test_an_id_tells_when_it_was_made(self):
        before = timezone.now()
        made = moment_of(new_id())
        assert before - timedelta(milliseconds=2) <= made <= timezone.now()


@pytest.mark.django_db
class TestEvents:
    def test_are_known_by_command_and_number(self, alice):
        command = ended_command(alice)
        event = command.events.get(seq=2)
        assert event.pk == (command.id, 2)
        CommandEvent.objects.filter(pk__in=[event.pk]).update(data={"a": 1})
        assert [row.data for row in command.events.order_by("seq")] == [{}, {"a": 1}, {}, {}, {}]

    def test_go_with_their_command(self, alice, bob):
        ended_command(alice).delete()
        ended_command(bob)
        assert CommandEvent.objects.count() == len(STEPS)
        alice.delete()
        bob.delete()
        assert not CommandEvent.objects.exists()

    @on_postgresql
    def test_of_one_command_are_looked_for_in_one_partition(self, alice):
        command = ended_command(alice)
        for rows in (
            CommandEvent.objects.filter(command_id=command.id, seq__gt=1).order_by("seq"),
            CommandEvent.objects.filter(pk__in=[(command.id, 1), (command.id, 2)]),
        ):
            plan = rows.explain()
            assert Month.of(timezone.now()).table in plan
            assert DEFAULT not in plan


@on_postgresql
@pytest.mark.django_db
class TestMonthsAhead:
    def test_there_are_some_after_migrate(self):
        month = Month.of(timezone.now())
        for _ in range(MONTHS_AHEAD + 1):
            assert month in months()
            month = month.following

    def test_time_goes_on(self):
        last = months()[-1]
        assert months_make(now=timezone.now()) == []
        made = months_make(now=last.start)
        assert len(made) == MONTHS_AHEAD
        assert made[0] == last.following

    def test_what_has_no_month_is_taken_in_and_moves_when_there_is_one(self, alice, caplog):
        without_months_ahead()
        old = command_made_at(MARCH.start + timedelta(days=9), alice, events=3)
        new = command_made_at(timezone.now(), alice)
        assert rows_in(DEFAULT) == 4
        months_make()
        assert (rows_in(DEFAULT), rows_in(MARCH.table)) == (0, 3)
        assert "no partition" not in caplog.text
        assert [old.events.count(), new.events.count()] == [3, 1]
        assert months()[0] == MARCH

    def test_a_month_that_was_detached_by_hand_holds_up_no_other(self, caplog):
        without_months_ahead()
        detached = Month.of(timezone.now()).following
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {detached.table} (LIKE {TABLE})")
        made = months_make()
        assert len(made) == MONTHS_AHEAD
        assert detached not in made
        assert detached.table in caplog.text

    def test_an_id_that_tells_no_time_is_taken_in_too(self, alice, caplog):
        Command.objects.create(id=UUID(int=2**127), user=alice, due_at=timezone.now())
        CommandEvent.objects.create(command_id=UUID(int=2**127), seq=1, event="queued", status="queued", progress=0)
        months_make()
        assert rows_in(DEFAULT) == 1
        assert "no partition" in caplog.text


@on_postgresql
@pytest.mark.django_db(transaction=True)
class TestTwoAtOnce:
    @pytest.fixture(autouse=True)
    def _as_it_was(self):
        yield
        months_make()

    def test_each_month_is_made_once(self):
        without_months_ahead()
        made, start = [], threading.Barrier(2)

        def make():
            start.wait()
            made.extend(months_make())
            connections.close_all()

        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(made) == months()
        assert len(made) == MONTHS_AHEAD + 1

    def test_whoever_is_at_the_table_is_not_waited_for(self, alice, caplog):
        """As a dump that reads for an hour: others wait for no more than a moment, and nothing has changed."""
        command = command_made_at(timezone.now(), alice)
        month = Month.of(timezone.now())
        reading, read = threading.Event(), threading.Event()

        def read_slowly():
            with transaction.atomic():
                list(CommandEvent.objects.all())
                reading.set()
                read.wait()
            connections.close_all()

        thread = threading.Thread(target=read_slowly)
        thread.start()
        reading.wait()
        try:
            assert not month_drop(month)
            made = months_make(now=months()[-1].start)
        finally:
            read.set()
            thread.join()
        assert made == []
        assert "could not" in caplog.text
        assert command.events.count() == 1
        assert month_drop(month)
        assert command.events.count() == 0


@pytest.mark.django_db(transaction=True)
class TestMigration:
    @pytest.fixture(autouse=True)
    def _as_it_was(self):
        yield
        months_make()

    def apps_at(self, *name):
        return MigrationLoader(connection).project_state(name).apps

    def test_existing_rows_move_and_can_move_back(self, alice):
        march, today = MARCH.start + timedelta(days=9), timezone.now()
        commands = [command_made_at(march, alice, events=3), command_made_at(today, alice, events=2)]
        CommandEvent.objects.filter(seq=1).update(broadcast_at=today, data={"a": ["ü"]})
        rows = list(CommandEvent.objects.order_by("pk").values())

        before = self.apps_at("commands", "0005_not_taken")
        with connection.schema_editor() as editor:
            migration.one_table(before, editor)
        old = before.get_model("commands", "CommandEvent")
        assert old.objects.count() == 5
        old.objects.create(command_id=commands[1].id, seq=3, event="x", status="queued", progress=0)

        with connection.schema_editor() as editor:
            migration.partition(self.apps_at("commands", "0009_event_partitions"), editor)
        CommandEvent.objects.get(pk=(commands[1].id, 3)).delete()
        assert list(CommandEvent.objects.order_by("pk").values()) == rows
        if connection.vendor == "postgresql":
            assert (rows_in(MARCH.table), rows_in(DEFAULT)) == (3, 0)
            assert set(months()) >= {MARCH, Month.of(today)}
        with connection.cursor() as cursor:
            found = connection.introspection.get_constraints(cursor, TABLE)
        assert [sorted(each["columns"]) for each in found.values() if each["primary_key"]] == [["command_id", "seq"]]
        assert found["event_to_broadcast"]["index"]
        assert [each["foreign_key"] for each in found.values() if each["foreign_key"]] == [("commands_command", "id")]
