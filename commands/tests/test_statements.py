"""What a command costs the database: every statement of the workers is one more that all commands wait for."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from commands.models import Command, StageRun
from commands.pipeline import engine
from commands.selectors import command_get, own_commands
from commands.services import command_submit
from commands.states import Stage, Status
from gateway.rows import update
from integrations.discovery import sync_instances
from tests.rows import ended_command

pytestmark = pytest.mark.django_db(transaction=True)

# With BEGIN and COMMIT, with the question of each worker whether there is more to do, and with what puts the events
# down as sent: one for each in tests, but for many events together otherwise.
MOST = 50


def test_a_command_costs_so_many_statements(alice, sandbox):
    sync_instances()  # as the first health check does
    for text in ("the first looks up more", "echo hello"):
        command = command_submit(user=alice, text=text)
        with CaptureQueriesContext(connection) as captured:
            for stage in Stage:
                engine.work(stage)
        assert Command.objects.get(id=command.id).status == Status.COMPLETED
    assert len(captured) <= MOST, "\n".join(query["sql"] for query in captured)


def test_what_must_survive_a_crash_of_the_database_waits_for_the_disk(alice, sandbox):
    """Only a claim, and that a service has accepted, do not: a try is on the disk before anything is handed over."""
    command = command_submit(user=alice, text="echo hello")
    with CaptureQueriesContext(connection) as captured:
        for stage in Stage:
            engine.work(stage)
    assert Command.objects.get(id=command.id).status == Status.COMPLETED
    unsynced = [query["sql"] for query in captured if "synchronous_commit" in query["sql"]]
    claims = [sql for sql in unsynced if "lease_expires_at = " in sql and "SKIP LOCKED" in sql]
    accepted = [sql for sql in unsynced if sql.startswith('UPDATE "commands_stagerun"') and "outcome" not in sql]
    assert len(unsynced) == len(claims) + len(accepted)
    assert bool(claims and accepted) == (connection.vendor == "postgresql")


def test_a_transaction_waits_for_the_disk_whatever_is_in_it(alice):
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL has commits that do not wait")
    command = command_submit(user=alice, text="echo hello")
    run = StageRun.objects.create(command=command, stage=Stage.RUNNER, attempt=1, idempotency_key="k")
    with transaction.atomic():
        update(StageRun, {"id": run.id}, {"polls": 1}, may_be_lost=True)
        assert _synchronous_commit() == "on"
    assert update(StageRun, {"id": run.id, "polls": 1}, {"polls": 2}, may_be_lost=True) == 1
    assert _synchronous_commit() == "on"


def _synchronous_commit():
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        return cursor.fetchone()[0]


def test_a_command_comes_with_its_files_as_by_the_orm(alice, django_assert_num_queries):
    ended, new = ended_command(alice), command_submit(user=alice, text="echo hello")
    for command in (ended, new):
        with django_assert_num_queries(1):
            found = command_get(user=alice, command_id=command.id)
            files = [vars(file) | {"_state": None} for file in found.files]
        expected = own_commands(alice).get(id=command.id)
        assert files == [vars(file) | {"_state": None} for file in expected.files]
        internal = {"_state": None}
        assert vars(found) | internal == vars(expected) | internal
    assert len(command_get(user=alice, command_id=ended.id).files) > 1
