"""What an administrator finds in the admin, and what can be done to it there."""

import pytest
from django.core.files.storage import default_storage

from tests.rows import ended_command

pytestmark = pytest.mark.django_db

USERS, COMMANDS, FILES = "/admin/accounts/user/", "/admin/commands/command/", "/admin/files/storedfile/"
READ_ONLY = [COMMANDS, FILES]


@pytest.fixture
def command(alice):
    return ended_command(alice, text="echo <script>alert(1)</script>")


@pytest.fixture
def ids(command):
    """The id of a row for each list."""
    return {USERS: command.user_id, COMMANDS: command.id, FILES: command.files[0].id}


@pytest.mark.parametrize("path", [USERS, *READ_ONLY])
def test_lists_and_pages_open(admin_client, ids, path):
    for page in (path, f"{path}{ids[path]}/change/", f"{path}{ids[path]}/history/"):
        answer = admin_client.get(page)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.content.decode()


def test_the_page_of_a_command_tells_its_story(admin_client, command):
    page = admin_client.get(f"{COMMANDS}{command.id}/change/").content.decode()
    for run in command.stage_runs.all():
        assert run.get_stage_display() in page
    for event in command.events.all():
        assert event.get_status_display() in page
    assert "Merhaba" in page


def test_the_page_of_a_file_shows_its_content_or_that_it_is_lost(admin_client, command):
    file = command.files[0]
    path = f"{FILES}{file.id}/change/"
    assert "Merhaba dünya" in admin_client.get(path).content.decode()
    default_storage.delete(file.content.name)
    assert "The storage does not have this file." in admin_client.get(path).content.decode()


@pytest.mark.parametrize("path", READ_ONLY)
def test_what_the_gateway_wrote_can_only_be_read(admin_client, ids, path):
    page = f"{path}{ids[path]}"
    for forbidden in (f"{path}add/", f"{page}/delete/"):
        assert admin_client.get(forbidden).status_code == 403
        assert admin_client.post(forbidden, {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{page}/change/", {"text": "x", "name": "x"}).status_code == 403
    assert admin_client.post(path, {"action": "delete_selected", "_selected_action": [ids[path]]}).status_code in (
        200,
        302,
    )
    assert admin_client.get(f"{page}/change/").status_code == 200


@pytest.mark.parametrize("path", [USERS, *READ_ONLY])
@pytest.mark.parametrize("person", ["alice", "stranger"])
def test_nobody_else_gets_in(client, ids, alice, path, person):
    if person == "alice":
        client.force_login(alice)
    for page in (path, f"{path}{ids[path]}/change/"):
        answer = client.get(page)
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={page}")


def found(client, path, query):
    answer = client.get(path, {"q": query})
    assert answer.status_code == 200
    return [row.pk for row in answer.context["cl"].result_list]


@pytest.mark.parametrize("path", [USERS, *READ_ONLY])
def test_one_finds_a_row_by_whose_it_is(admin_client, ids, bob, path):
    ended_command(bob)
    assert ids[path] in found(admin_client, path, "alice")
    assert bob.id not in found(admin_client, path, "alice")
    assert found(admin_client, path, "nobody") == []


@pytest.mark.parametrize("path", READ_ONLY)
def test_one_finds_a_row_by_its_id(admin_client, ids, path):
    assert found(admin_client, path, str(ids[path])) == [ids[path]]


@pytest.mark.parametrize("path", [USERS, *READ_ONLY])
@pytest.mark.parametrize("query", ["x", "\0", "%", "'", '"', "\\", "🔑", "x" * 5000, "0" * 40, "--", "a b c"])
def test_no_search_breaks_the_list(admin_client, ids, path, query):
    assert admin_client.get(path, {"q": query}).status_code == 200


@pytest.mark.parametrize("path", [USERS, *READ_ONLY])
@pytest.mark.parametrize(
    "parameter", ["p=x", "o=x", "nothing=1", "created_at__gte=x", "status__exact=x", "id__exact=x"]
)
def test_a_bad_parameter_leads_back_to_the_list(admin_client, path, parameter):
    assert admin_client.get(f"{path}?{parameter}", follow=True).status_code == 200
