"""What a command costs the database: every statement of the workers is one more that all commands wait for."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from commands.models import Command
from commands.pipeline import engine
from commands.selectors import command_get, own_commands
from commands.services import command_submit
from commands.states import Stage, Status
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
