import json

import pytest

from integrations.clients.archive import ArchiveRequest, SearchRequest
from integrations.clients.base import WorkState
from integrations.clients.dialects import client_for
from integrations.clients.errors import InvalidAnswerError
from integrations.registry import Instance, ServiceKind


@pytest.fixture
def client(server):
    return client_for(Instance(ServiceKind.ARCHIVE, server.url, "b"))


def test_it_receives_first_and_archives_later(client, server):
    server.says({"status": "received", "id": "7"})
    report = client.submit(ArchiveRequest("l.last", "{}", {"tags": []}), idempotency_key="c:archive")
    assert (report.remote_id, report.state, report.file_id) == ("7", WorkState.WORKING, None)
    server.says({"status": "archived", "id": "7"})
    report = client.report("7")
    assert (report.state, report.file_id) == (WorkState.DONE, "7")
    assert [request[:2] for request in server.requests] == [("POST", "/archive"), ("GET", "/archive/7")]
    assert json.loads(server.requests[0][3]) == {"lastFileId": "l.last", "lastContent": "{}", "metadata": {"tags": []}}


def test_an_entry_that_failed_has_no_file(client, server):
    server.says({"status": "failed", "id": "7", "error": "no space"})
    report = client.report("7")
    assert (report.state, report.file_id, report.error) == (WorkState.FAILED, None, "no space")


def test_the_entry_is_the_file(client, server):
    entry = {"id": "7", "tags": ["ünlü"], "content": {"a": 1.5}}
    server.says(entry)
    assert json.loads(client.fetch("7")) == entry
    client_path = server.requests[0][1]
    assert client_path == "/atlas/7"


@pytest.mark.parametrize("entry", [[], "7", None, {}, {"id": "8"}, {"results": [{"id": "7"}]}])
def test_what_is_not_the_entry_is_invalid(client, server, entry):
    server.says(entry)
    with pytest.raises(InvalidAnswerError):
        client.fetch("7")


def test_a_search_is_a_query(client, server):
    server.says({"results": [{"id": 7, "tags": []}, {"id": "8"}, {"id": "9"}], "count": 3})
    assert client.search(SearchRequest("ışık & co", ["a", "b"], 0.5, 2, 0)) == ["7", "8"]
    client.search(SearchRequest("", [], None, 100, 3))
    paths = [request[:2] for request in server.requests]
    assert paths == [
        ("GET", "/atlas/search?query=%C4%B1%C5%9F%C4%B1k+%26+co&tags=a%2Cb&min_success_rate=0.5&limit=2&offset=0"),
        ("GET", "/atlas/search?query=&limit=100&offset=3"),
    ]
