"""The stand-ins as the services that speak otherwise: what the contract's second table says of each."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from integrations.sandbox import archive_b, runner_b, segmentation_b
from integrations.sandbox.__main__ import parse_arguments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from integrations.sandbox.store import Store
    from integrations.sandbox.tests.conftest import Serve

TASKS = {
    "id": "alt-1",
    "version": "1.0",
    "created_at": "2025-04-26T19:32:00Z",
    "mode": "normal",
    "persona": "p",
    "tasks": [{"id": "t", "description": "echo Merhaba"}],
    "metadata": {},
}


class TestSegmentationB:
    @pytest.fixture
    async def client(self, store: Store, serve: Serve, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
        async with serve(segmentation_b.create_app(store, tmp_path)) as client:
            yield client

    async def test_it_leaves_the_alt_in_the_folder_once_per_request(
        self, client: httpx.AsyncClient, tmp_path: Path
    ) -> None:
        body = {"command": "echo a", "mode": "Dream", "persona": "p"}
        answers = [(await client.post("/segment", json=body, headers={"Idempotency-Key": "k"})).json() for _ in "ab"]
        assert answers[0].keys() == {
            *("segmentation_id", "status", "alt_file_path", "message", "mode_used", "persona_used")
        }
        assert (answers[0]["status"], answers[0]["mode_used"], answers[0]["persona_used"]) == ("success", "Dream", "p")
        ids = [yaml.safe_load((tmp_path / f"{answer['segmentation_id']}.alt").read_text())["id"] for answer in answers]
        assert ids == [answer["segmentation_id"] for answer in answers]
        assert len(set(ids)) == 2
        assert answers[0]["alt_file_path"] == str(tmp_path / f"{ids[0]}.alt")
        stats = (await client.get("/sandbox/stats")).json()
        assert (stats["works"], stats["works_by_key"]) == (2, {"k": 2})

    @pytest.mark.parametrize("mode", ["normal", "DREAM", "Wild"])
    async def test_it_knows_capitalised_modes_only(self, client: httpx.AsyncClient, mode: str) -> None:
        assert (await client.post("/segment", json={"command": "echo a", "mode": mode})).status_code == 422

    async def test_it_serves_no_files(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/files/alt/x.alt")).status_code == 404


class TestRunnerB:
    @pytest.fixture
    async def client(self, store: Store, serve: Serve, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
        async with serve(runner_b.create_app(store, tmp_path)) as client:
            yield client

    async def test_a_run_leaves_its_last_in_the_folder(self, client: httpx.AsyncClient, tmp_path: Path) -> None:
        (tmp_path / "x.alt").write_text(json.dumps(TASKS))
        body = {"file_path": str(tmp_path / "x.alt"), "priority": "critical", "mode": "dream", "persona": "q"}
        answer = await client.post("/api/v1/process", json=body)
        assert answer.status_code == 202
        request_id = answer.json()["request_id"]
        assert answer.json() == {
            "request_id": request_id,
            "alt_file_id": "alt-1",
            "status": "processing",
            "last_file_path": None,
        }
        async with asyncio.timeout(20):
            while (await client.get("/api/v1/status")).json()["active_tasks"]:  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0)
        last = json.loads((tmp_path / f"last_{request_id}.json").read_text())
        assert (last["alt_file_id"], last["execution_id"], last["status"]) == ("alt-1", request_id, "success")
        assert (last["mode"], last["persona"], last["task_results"]["t"]["output"]) == ("dream", "q", "Merhaba")

    @pytest.mark.parametrize(
        ("content", "changes", "status"),
        [
            (TASKS, {"file_path": "gone.alt"}, 404),
            (TASKS, {"file_path": "/etc/hostname"}, 422),
            (TASKS, {"file_path": "a\0b"}, 422),
            (TASKS, {"file_path": ""}, 422),
            (TASKS, {"mode": "Normal"}, 422),
            (TASKS, {"priority": "normal"}, 422),
            ({**TASKS, "mode": "Normal"}, {}, 422),
            ({"segments": TASKS["tasks"], "id": "s"}, {}, 422),
            ([], {}, 422),
            ("no JSON", {}, 422),
        ],
    )
    async def test_what_it_cannot_run_is_refused(
        self, client: httpx.AsyncClient, tmp_path: Path, content: Any, changes: dict[str, str], status: int
    ) -> None:
        (tmp_path / "x.alt").write_text(content if content == "no JSON" else json.dumps(content))
        body = {"file_path": str(tmp_path / "x.alt"), **changes}
        assert (await client.post("/api/v1/process", json=body)).status_code == status
        assert (await client.get("/sandbox/stats")).json()["works"] == 0

    async def test_it_is_well_at_a_path_of_its_own(self, client: httpx.AsyncClient) -> None:
        await client.put("/sandbox/faults", json={"faults": [{"kind": "fail"}]})
        assert (await client.get("/api/v1/health")).json()["status"] == "ok"
        await client.put("/sandbox/faults", json={"faults": [{"kind": "fail", "path": "/api/v1/health"}]})
        assert (await client.get("/api/v1/health")).status_code == 500
        assert (await client.get("/health")).status_code == 404


class TestArchiveB:
    @pytest.fixture
    async def client(self, store: Store, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
        async with serve(archive_b.create_app(store)) as client:
            yield client

    async def archive(self, client: httpx.AsyncClient, title: str, rate: float, *tags: str) -> str:
        body = {
            "lastFileId": f"{title}.last",
            "lastContent": {"title": title},
            "metadata": {"success_rate": rate, "tags": tags},
        }
        first = (await client.post("/archive", json=body, headers={"Idempotency-Key": title})).json()
        assert first == (await client.post("/archive", json=body, headers={"Idempotency-Key": title})).json()
        assert first == {"status": "received", "id": first["id"]}
        return str(first["id"])

    async def test_what_was_received_is_archived_and_found(self, client: httpx.AsyncClient) -> None:
        one = await self.archive(client, "one", 0.2, "a", "b")
        two = await self.archive(client, "two", 0.9, "a")
        assert (await client.get(f"/archive/{one}")).json() == {"id": one, "status": "archived"}
        atlas = (await client.get(f"/atlas/{one}")).json()
        assert (atlas["id"], atlas["last_file_id"], atlas["content"]) == (one, "one.last", {"title": "one"})
        for query, found in (
            ("", [two, one]),
            ("query=one", [one]),
            ("tags=a", [two, one]),
            ("tags=a,b", [one]),
            ("tags=a&tags=b", [one]),
            ("min_success_rate=0.5", [two]),
            ("limit=1&offset=1", [one]),
        ):
            answer = (await client.get(f"/atlas/search?{query}")).json()
            assert [item["id"] for item in answer["results"]] == found, query

    @pytest.mark.parametrize("query", ["limit=x", "limit=0", "offset=-1", "min_success_rate=2", "min_success_rate=nan"])
    async def test_a_search_that_makes_no_sense_is_refused(self, client: httpx.AsyncClient, query: str) -> None:
        assert (await client.get(f"/atlas/search?{query}")).status_code == 422

    async def test_what_is_not_there(self, client: httpx.AsyncClient) -> None:
        for path in ("/archive/x", "/atlas/x", "/files/atlas/x", "/items/x"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/health")).json()["status"] == "UP"


@pytest.mark.parametrize(
    "arguments",
    [
        ["runner", "--dialect", "a"],
        ["archive", "--dialect", "klingon"],
        ["runner", "--dialect", "b"],
        ["segmentation", "--dialect", "b", "--shared-dir", "relative"],
    ],
)
def test_a_dialect_that_there_is_not_or_that_lacks_its_folder_does_not_start(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
