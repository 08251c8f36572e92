"""The archive is everybody's; what is found in it is one's own."""

import json

import pytest

from commands import archive_search
from commands.models import StageRun
from commands.services import command_submit
from commands.tests.test_steps import LAST, V2, done
from conftest import drive
from gateway.api.errors import ErrorCode
from gateway.tests.expect import fields_of, problem_of
from integrations.clients import breaker, http
from integrations.registry import ServiceKind, choose
from integrations.tests.servers import Server
from tests.rows import ended_command

pytestmark = [pytest.mark.security, pytest.mark.security_access]
SEARCH = f"{V2}/archive/search"


@pytest.mark.django_db(transaction=True)
def test_each_finds_what_is_their_own_whatever_the_archive_finds(alice, bob, admin, api, sandbox):
    """The words are in the entries of both."""
    ours = drive(command_submit(user=alice, text="echo zürafa", tags=["büyük"]))
    step, _atlas = done(api(alice), "archive", {"content": LAST.replace("my-run", "zürafa")})
    theirs = drive(command_submit(user=bob, text="echo zürafa"))

    def found(person, **query):
        return api(person).get(SEARCH, query).json()

    whole = found(alice, q="zürafa")
    assert whole["next_offset"] is None
    assert {next(iter(entry["links"].values())) for entry in whole["results"]} == {
        f"{V2}/commands/{ours.id}",
        f"{V2}/archive/{step['id']}",
    }
    [entry] = found(alice, q="zürafa", tags="büyük")["results"]
    assert (entry["text"], entry["tags"], entry["success_rate"]) == ("echo zürafa", ["büyük"], 1.0)
    assert entry["id"] == StageRun.objects.get(command=ours, stage="archive").remote_id
    assert entry["file"]["id"] == str(ours.atlas_file_id)
    [of_step] = [each for each in whole["results"] if each["text"] == ""]
    assert (of_step["success_rate"], of_step["summary"]) == (None, None)  # as the schema says
    assert entry["summary"]
    assert api(alice).get(entry["file"]["url"]).status_code == 200
    assert [each["text"] for each in found(alice, q="zürafa", min_success_rate=0.6)["results"]] == ["echo zürafa"]
    assert [each["file"]["id"] for each in found(bob, q="zürafa")["results"]] == [str(theirs.atlas_file_id)]
    assert found(admin, q="zürafa") == {"results": [], "next_offset": None}
    first = found(alice, q="zürafa", limit=1)
    rest = found(alice, q="zürafa", limit=1, offset=first["next_offset"])
    assert [*first["results"], *rest["results"]] == whole["results"]


@pytest.fixture
def archive(settings):
    server = Server()
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"archive": [server.url]}
    yield server
    http.forget_connections()
    server.close()


def entry_of(user, remote_id):
    command = ended_command(user)
    command.stage_runs.filter(stage="archive").update(remote_id=remote_id)
    return command


@pytest.mark.django_db
def test_pages_go_on_behind_what_was_looked_at_and_show_nothing_that_the_archive_says_itself(
    alice, bob, api, archive, monkeypatch
):
    monkeypatch.setattr(archive_search, "WINDOW", 4)
    for remote_id, owner in {"1": bob, "2": alice, "3": alice, "4": bob}.items():
        entry_of(owner, remote_id)
    entries = [{"id": number, "summary": "of somebody", "metadata": {"user_id": str(alice.id)}} for number in (1, 2, 3)]
    archive.says({"results": [*entries, {"id": "unknown"}], "count": 1000})
    client = api(alice)
    page = client.get(SEARCH, {"q": "x", "limit": 1, "offset": 8}).json()
    assert ([entry["id"] for entry in page["results"]], page["next_offset"]) == (["2"], 10)
    page = client.get(SEARCH, {"q": "x", "offset": 8}).json()
    assert ([entry["id"] for entry in page["results"]], page["next_offset"]) == (["2", "3"], 12)
    assert "of somebody" not in str(page)
    assert client.get(SEARCH, {"q": "x", "offset": archive_search.MAX_OFFSET - 3}).json()["next_offset"] is None
    archive.says({"results": [{"id": "1"}, {"id": "4"}]})
    assert client.get(SEARCH, {"q": "x"}).json() == {"results": [], "next_offset": None}
    most = [f"{number:050}" for number in range(20)]
    assert client.get(SEARCH, {"tags": ",".join(most)}).status_code == 200
    assert json.loads(archive.requests[-1][3])["tags"] == most


@pytest.mark.django_db
def test_an_archive_that_is_away_or_makes_no_sense_is_503_and_bad_parameters_are_named(alice, api, archive, settings):
    client = api(alice)
    senseless = [[], b"<html>", *({"results": [entry]} for entry in ({"name": "x"}, {"id": "\0"}, {"id": "\ud800"}))]
    for said, status in (*((said, 200) for said in senseless), ({}, 500), ({}, 404)):
        archive.says(said, status)
        problem_of(client.get(SEARCH, {"q": "x"}), ErrorCode.SERVICE_UNAVAILABLE)
    settings.SERVICE_URLS |= {"archive": []}
    answer = client.get(SEARCH, {"q": "x"})
    assert problem_of(answer, ErrorCode.SERVICE_UNAVAILABLE)["detail"] == "The archive service could not be reached."
    for query, field in {
        "": "q",
        "limit=5": "q",
        "q=x&limit=0": "limit",
        "q=x&offset=-1": "offset",
        "q=x&offset=9999999": "offset",
        "q=": "q",
        "q=%00": "q",
        "min_success_rate=1.1": "min_success_rate",
        "min_success_rate=nan": "min_success_rate",
        "q=x&tags=": "tags",
        "tags=,": "tags",
        "tags=a,%20,b": "tags",
        f"tags={','.join(map(str, range(21)))}": "tags",
        f"tags=a,{'b' * 51}": "tags",
        "q=x&cursor=x": "cursor",
    }.items():
        assert list(fields_of(client.get(f"{SEARCH}?{query}"))) == [field], query


@pytest.mark.django_db
def test_slow_searches_keep_out_no_work_and_more_of_them_are_refused(alice, api, archive, settings):
    settings.SERVICE_MAX_IN_FLIGHT = 2
    archive.says({"results": []})
    client = api(alice)
    with breaker.protected(archive.url, "GET", is_search=True):
        answer = client.get(SEARCH, {"q": "x"})
        problem_of(answer, ErrorCode.SERVICE_UNAVAILABLE)
        assert (answer["Retry-After"], archive.requests) == ("2", [])
        assert choose(ServiceKind.ARCHIVE).base_url == archive.url
        for _ in range(2):
            with breaker.protected(archive.url, "POST", is_new_work=True):
                pass
    assert client.get(SEARCH, {"q": "x"}).status_code == 200
