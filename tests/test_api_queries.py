"""A read costs the same number of queries whatever there is."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.rows import ended_command

pytestmark = pytest.mark.django_db

MANY = 20


def queries_of(client, path):
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return [query["sql"] for query in captured]


def paths_of(command):
    own = f"/api/v2/commands/{command.id}"
    file = f"/api/v2/files/{command.files[0].id}"
    return [
        "/api/v2/me",
        "/api/v2/commands",
        own,
        f"{own}/events",
        f"{own}/timeline",
        f"{own}/result",
        file,
        f"{file}/content",
    ]


def test_each_read_costs_as_much_with_twenty_rows_as_with_one(api, alice):
    client = api(alice)
    few = {path: len(queries_of(client, path)) for path in paths_of(ended_command(alice))}
    for _ in range(MANY):
        command = ended_command(alice, repeats=MANY)
    many = {path: len(queries_of(client, path)) for path in paths_of(command)}
    assert list(few.values()) == list(many.values())
    assert max(many.values()) <= 3, many


@pytest.mark.parametrize("path", ["accounts/user/", "commands/command/", "files/storedfile/"])
def test_each_list_of_the_admin_costs_as_much_with_twenty_rows_as_with_one(
    admin_client, admin_user, path, django_user_model
):
    ended_command(admin_user)
    few = len(queries_of(admin_client, f"/admin/{path}"))
    for number in range(MANY):
        user = django_user_model.objects.create_user(f"user{number}", f"user{number}@example.com")
        ended_command(user)
    assert len(queries_of(admin_client, f"/admin/{path}")) == few


def test_the_page_of_a_command_costs_as_much_with_many_events_as_with_few(admin_client, admin_user):
    few, many = (ended_command(admin_user, repeats=repeats) for repeats in (1, MANY))
    paths = [f"/admin/commands/command/{command.id}/change/" for command in (few, many)]
    queries_of(admin_client, paths[0])  # fills the cache of content types
    counts = {len(queries_of(admin_client, path)) for path in paths}
    assert len(counts) == 1
