from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from integrations.sandbox import engine, runner

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from integrations.sandbox.actions import Action
    from integrations.sandbox.store import Store
    from integrations.sandbox.tests.conftest import Serve


def alt(*descriptions: str, **dependencies: Any) -> dict[str, Any]:
    return {
        "title": "T",
        "tasks": [
            {"id": f"t{number}", "description": text, "dependencies": dependencies.get(f"t{number}", [])}
            for number, text in enumerate(descriptions)
        ],
    }


async def run(client: httpx.AsyncClient, content: Any, **options: Any) -> str:
    body = {"altFileId": "a.alt", "altContent": content, "options": options}
    answer = await client.post("/run", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "pending"
    return str(answer.json()["taskId"])


async def poll(client: httpx.AsyncClient, run_id: str, probe: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for the status until it is as wanted."""
    async with asyncio.timeout(20):
        while not probe(body := await status_of(client, run_id)):  # noqa: ASYNC110 - asked over HTTP, which has no events
            await asyncio.sleep(0.005)
    return body


async def status_of(client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(f"/tasks/{run_id}")).json()
    return body


async def wait_for(client: httpx.AsyncClient, run_id: str, *statuses: str) -> dict[str, Any]:
    return await poll(client, run_id, lambda body: body["status"] in statuses)


async def outcome(client: httpx.AsyncClient, run_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    body = await wait_for(client, run_id, "completed", "failed", "cancelled")
    file = (await client.get(f"/files/last/{body['lastFileId']}")).json()
    return body, json.loads(file["content"])


async def test_a_run_that_succeeds(runner_client: httpx.AsyncClient) -> None:
    content = json.dumps(alt("echo Merhaba", "calc 6*7", t1=["t0"]))
    body, last = await outcome(runner_client, await run(runner_client, content, persona="p", priority="high"))
    assert (body["status"], body["progress"], "error" in body) == ("completed", 100, False)
    assert {name: result["output"] for name, result in last["task_results"].items()} == {"t0": "Merhaba", "t1": "42"}
    expected = {
        "execution_id": body["id"],
        "alt_file_id": "a.alt",
        "title": "T",
        "mode": "normal",
        "persona": "p",
        "status": "success",
        "success_rate": 1.0,
        "artifacts": [],
        "tags": [],
        "summary": "2 of 2 tasks succeeded.",
        "version": "1.0",
    }
    assert {name: last[name] for name in expected} == expected
    assert last["execution_graph"]["edges"] == [{"from": "t0", "to": "t1"}]
    assert last["start_time"] <= last["end_time"]


async def test_what_depends_on_a_failure_is_skipped(runner_client: httpx.AsyncClient) -> None:
    content = alt("fail no luck", "echo b", "echo c", t1=["t0"])
    body, last = await outcome(runner_client, await run(runner_client, content))
    assert body["status"] == "completed"
    assert [result["status"] for result in last["task_results"].values()] == ["failed", "skipped", "success"]
    assert (last["status"], last["success_rate"]) == ("partialsuccess", 0.3333)
    assert last["summary"] == "1 of 3 tasks succeeded (1 failed, 1 skipped)."


async def test_a_run_fails_when_nothing_succeeded_and_something_failed(runner_client: httpx.AsyncClient) -> None:
    body, last = await outcome(runner_client, await run(runner_client, alt("fail no luck", "make coffee")))
    assert (body["status"], body["error"], body["progress"]) == ("failed", "no luck", 100)
    assert last["status"] == "failure"


async def test_unknown_actions_are_never_called_success(runner_client: httpx.AsyncClient) -> None:
    body, last = await outcome(runner_client, await run(runner_client, alt("rm -rf /")))
    assert body["status"] == "completed"
    result = last["task_results"]["t0"]
    assert (result["status"], result["output"]) == ("not_executed", None)
    assert "does not know this action" in result["error"]
    assert (last["status"], last["success_rate"]) == ("failure", 0.0)


async def test_cancelling_leaves_what_was_done(runner_client: httpx.AsyncClient) -> None:
    run_id = await run(runner_client, alt("echo a", "sleep 3600", "echo c"))
    await poll(runner_client, run_id, lambda body: body["progress"] >= 33)
    for _ in range(2):
        answer = await runner_client.post(f"/tasks/{run_id}/cancel")
        assert answer.json() == {"status": "cancelled"}
    body, last = await outcome(runner_client, run_id)
    assert (body["status"], body["progress"]) == ("cancelled", 33)
    statuses = [result["status"] for result in last["task_results"].values()]
    assert statuses == ["success", "cancelled", "cancelled"]


async def test_cancelling_a_finished_run_answers_its_status(runner_client: httpx.AsyncClient) -> None:
    run_id = await run(runner_client, alt("echo a"))
    await outcome(runner_client, run_id)
    answer = await runner_client.post(f"/tasks/{run_id}/cancel")
    assert answer.json() == {"status": "completed"}
    assert (await runner_client.post("/tasks/none/cancel")).status_code == 404


async def test_sleeping_makes_progress(runner_client: httpx.AsyncClient) -> None:
    run_id = await run(runner_client, alt("sleep 0.5"))
    seen = set()

    def over(body: dict[str, Any]) -> bool:
        seen.add(body["progress"])
        return bool(body["status"] == "completed")

    await poll(runner_client, run_id, over)
    assert len(seen) > 2


async def test_a_stopped_runner_resumes_without_repeating(
    store: Store, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    performed = []

    def perform(action: Action) -> str:
        performed.append(action.argument)
        return action.argument

    monkeypatch.setattr(engine, "perform", perform)
    async with serve(runner.create_app(store)) as client:
        run_id = await run(client, alt("echo a", "sleep 0.3", "echo c"))
        await poll(client, run_id, lambda body: body["progress"] >= 33)
    assert performed == ["a"]
    async with serve(runner.create_app(store)) as client:
        body, last = await outcome(client, run_id)
    assert performed == ["a", "c"]
    assert (body["status"], last["success_rate"]) == ("completed", 1.0)


async def test_never_finish_and_lost_task(runner_client: httpx.AsyncClient) -> None:
    await runner_client.put("/sandbox/faults", json={"faults": [{"kind": "never_finish", "times": 1}]})
    held = await run(runner_client, alt("echo a"))
    await outcome(runner_client, await run(runner_client, alt("echo b")))
    assert (await status_of(runner_client, held))["status"] == "running"
    await runner_client.put("/sandbox/faults", json={"faults": [{"kind": "lost_task", "times": 1}]})
    assert (await runner_client.get(f"/tasks/{held}")).status_code == 404
    await wait_for(runner_client, held, "completed")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"altFileId": 5}, "altFileId"),
        ({"altFileId": None}, "altFileId"),
        ({"altContent": 5}, "altContent"),
        ({"altContent": {"tasks": []}}, "altContent"),
        ({"options": {"callback_url": "ftp://x/"}}, "options.callback_url"),
        ({"options": {"callback_url": "http://"}}, "options.callback_url"),
        ({"options": {"callback_url": "http://x:99999/"}}, "options.callback_url"),
        ({"options": {"callback_url": "http://x\n/"}}, "options.callback_url"),
        ({"options": []}, "options"),
    ],
)
async def test_wrong_requests_are_told_what_is_wrong(
    runner_client: httpx.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    answer = await runner_client.post("/run", json={"altFileId": "a", "altContent": alt("echo a"), **changes})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(field)
    assert (await runner_client.get("/sandbox/stats")).json()["works"] == 0
