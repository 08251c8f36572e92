from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

LAST = {
    "title": "G\u00fcnl\u00fck \u0130\u015f",
    "summary": "1 of 2 tasks succeeded.",
    "status": "partialsuccess",
    "success_rate": 0.5,
    "tags": ["from-last"],
    "task_results": {"a": {"status": "success", "output": "42"}, "b": {"status": "failed", "error": "no luck"}},
}


async def archive(client: httpx.AsyncClient, last: Any = LAST, **metadata: Any) -> dict[str, Any]:
    body = {"lastFileId": "x.last", "lastContent": last, "metadata": metadata}
    answer = await client.post("/archive", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def search(client: httpx.AsyncClient, **query: Any) -> tuple[list[str], int]:
    found = (await client.post("/search", json=query)).json()
    return [item["id"] for item in found["results"]], found["count"]


@pytest.mark.parametrize("last", [LAST, json.dumps(LAST)], ids=["object", "text"])
async def test_an_atlas_is_made_of_the_last(archive_client: httpx.AsyncClient, last: Any) -> None:
    answer = await archive(archive_client, last, success_rate=0.6, tags=["t"], user="u")
    assert answer["status"] == "archived"
    file = (await archive_client.get(f"/files/atlas/{answer['atlasFileId']}")).json()
    atlas = json.loads(file["content"])
    assert (atlas["id"], atlas["last_file_id"]) == (answer["id"], "x.last")
    assert (atlas["success_rate"], atlas["tags"], atlas["metadata"]["user"]) == (0.6, ["t"], "u")
    assert atlas["content"] == LAST
    assert [segment["id"] for segment in atlas["segment_results"]] == ["a", "b"]
    assert atlas["analysis_results"]["tasks_by_status"] == {"success": 1, "failed": 1}
    assert (await archive_client.get(f"/archive/{answer['id']}")).json() == answer
    item = (await archive_client.get(f"/items/{answer['id']}")).json()
    assert (item["title"], item["segment_results"]) == (LAST["title"], atlas["segment_results"])


async def test_the_last_speaks_where_the_sender_does_not(archive_client: httpx.AsyncClient) -> None:
    answer = await archive(archive_client)
    item = (await archive_client.get(f"/items/{answer['id']}")).json()
    assert (item["success_rate"], item["tags"]) == (0.5, ["from-last"])


async def test_search(archive_client: httpx.AsyncClient) -> None:
    first = (await archive(archive_client, tags=["Red", "big"]))["id"]
    second = (await archive(archive_client, {"title": "other"}, tags=["red"], success_rate=1))["id"]
    assert await search(archive_client, query="") == ([second, first], 2)
    assert await search(archive_client, query="G\u00dcNL\u00dcK luck") == ([first], 1)
    assert await search(archive_client, query="gunluk i\u015f") == ([first], 1)
    assert await search(archive_client, query="absent") == ([], 0)
    assert await search(archive_client, query="", tags=["RED"]) == ([second, first], 2)
    assert await search(archive_client, query="", tags=["red", "big"]) == ([first], 1)
    assert await search(archive_client, query="", min_success_rate=0.9) == ([second], 1)
    assert await search(archive_client, query="", limit=1, offset=1) == ([first], 2)
    assert await search(archive_client, query="\" % _ \\ '") == ([], 0)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/archive", {"lastFileId": "", "lastContent": {}}, "lastFileId"),
        ("/archive", {"lastFileId": "x", "lastContent": "{"}, "lastContent"),
        ("/archive", {"lastFileId": "x", "lastContent": "[]"}, "lastContent"),
        ("/archive", {"lastFileId": "x", "lastContent": "[" * 9000}, "lastContent"),
        ("/archive", {"lastFileId": "x", "lastContent": {"task_results": []}}, "lastContent.task_results"),
        ("/archive", {"lastFileId": "x", "lastContent": {}, "metadata": {"tags": "t"}}, "metadata.tags"),
        ("/archive", {"lastFileId": "x", "lastContent": {}, "metadata": {"success_rate": 2}}, "metadata.s"),
        ("/search", {"query": 5}, "query"),
        ("/search", {"query": "", "limit": 0}, "limit"),
        ("/search", {"query": "", "limit": 101}, "limit"),
        ("/search", {"query": "", "limit": True}, "limit"),
        ("/search", {"query": "", "offset": -1}, "offset"),
        ("/search", {"query": "", "min_success_rate": "high"}, "min_success_rate"),
    ],
)
async def test_wrong_requests_are_told_what_is_wrong(
    archive_client: httpx.AsyncClient, path: str, body: Any, field: str
) -> None:
    answer = await archive_client.post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(field)
