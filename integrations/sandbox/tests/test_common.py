"""Health, errors, request ids and faults, which all services have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from integrations.sandbox.bodies import MAX_BODY_BYTES

if TYPE_CHECKING:
    import httpx

    from integrations.sandbox.store import Store


@pytest.fixture(params=["segmentation", "runner", "archive"])
def client(request: pytest.FixtureRequest) -> httpx.AsyncClient:
    client: httpx.AsyncClient = request.getfixturevalue(f"{request.param}_client")
    return client


WORK_PATHS = {"segmentation": "/segment", "runner": "/run", "archive": "/archive"}


async def work_path(client: httpx.AsyncClient) -> str:
    return WORK_PATHS[(await client.get("/health")).json()["service"]]


async def test_health(client: httpx.AsyncClient) -> None:
    body = (await client.get("/health")).json()
    assert body["status"] == "ok"
    assert set(body) == {"status", "service", "version"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"1" * 5000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b"NaN", 422),
        (b"1e999", 422),
        (b'"\\ud800"', 422),
        (b"[" * 100_000, 422),
        (b"[" * 100 + b"]" * 100, 422),
        (b"[" + b"0," * 300_000 + b"0]", 422),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_bad_bodies_are_client_errors(client: httpx.AsyncClient, content: bytes, status: int) -> None:
    answer = await client.post(await work_path(client), content=content, headers={"X-Request-ID": "r"})
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
    assert answer.headers["X-Request-ID"] == "r"


async def test_unknown_paths_and_wrong_methods(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nowhere")).status_code == 404
    assert (await client.get(f"{await work_path(client)}/")).status_code == 404
    answer = await client.put(await work_path(client))
    assert answer.status_code == 405
    assert "detail" in answer.json()


async def test_an_overlong_key_is_refused(archive_client: httpx.AsyncClient) -> None:
    body = {"lastFileId": "x", "lastContent": {}}
    answer = await archive_client.post("/archive", json=body, headers={"Idempotency-Key": "k" * 256})
    assert answer.status_code == 422


async def test_the_request_id_is_echoed_even_on_a_bug(archive_client: httpx.AsyncClient, store: Store) -> None:
    store.close()
    answer = await archive_client.get("/archive/x", headers={"X-Request-ID": "r"})
    assert answer.status_code == 500
    assert answer.headers["X-Request-ID"] == "r"


async def put_faults(client: httpx.AsyncClient, *faults: dict[str, Any]) -> Any:
    answer = await client.put("/sandbox/faults", json={"faults": list(faults)})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_fail_ends_itself_after_its_times(client: httpx.AsyncClient) -> None:
    fault = {"kind": "fail", "status": 503, "retry_after": 7, "times": 2}
    assert await put_faults(client, fault) == {"faults": [fault]}
    for _ in range(2):
        answer = await client.get("/nowhere", headers={"X-Request-ID": "r"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
        assert answer.headers["X-Request-ID"] == "r"
    assert (await client.get("/nowhere")).status_code == 404
    assert (await client.get("/sandbox/faults")).json() == {"faults": []}
    assert (await client.get("/sandbox/stats")).json()["fault_hits"] == [2]


async def test_faults_hit_only_their_path_and_method(archive_client: httpx.AsyncClient) -> None:
    await put_faults(archive_client, {"kind": "fail", "path": "/archive", "method": "get"})
    assert (await archive_client.get("/archive/x")).status_code == 500
    assert (await archive_client.get("/items/x")).status_code == 404
    assert (await archive_client.post("/archive", json={})).status_code == 422


async def test_health_is_hit_only_when_named(client: httpx.AsyncClient) -> None:
    await put_faults(client, {"kind": "fail"}, {"kind": "fail", "path": "/"})
    assert (await client.get("/health")).status_code == 200
    await put_faults(client, {"kind": "fail", "path": "/health"})
    assert (await client.get("/health")).status_code == 500
    assert (await client.delete("/sandbox/faults")).json() == {"faults": []}
    assert (await client.get("/health")).status_code == 200


async def test_garbage(client: httpx.AsyncClient) -> None:
    await put_faults(client, {"kind": "garbage", "times": 1}, {"kind": "garbage", "variant": "wrong_shape"})
    answer = await client.get("/nowhere")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()
    assert isinstance((await client.get("/nowhere")).json(), list)


async def test_lost_file_hits_files_only(segmentation_client: httpx.AsyncClient) -> None:
    command = {"command": "echo a", "mode": "normal", "persona": "p"}
    name = (await segmentation_client.post("/segment", json=command)).json()["alt_file"]
    await put_faults(segmentation_client, {"kind": "lost_file"})
    assert (await segmentation_client.get(f"/files/alt/{name}")).status_code == 404
    assert (await segmentation_client.post("/segment", json=command)).status_code == 200
    await segmentation_client.delete("/sandbox/faults")
    assert (await segmentation_client.get(f"/files/alt/{name}")).status_code == 200


async def test_slow_takes_its_time_and_then_answers(archive_client: httpx.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    await put_faults(archive_client, {"kind": "slow", "seconds": 0.2})
    started = loop.time()
    assert (await archive_client.get("/items/x")).status_code == 404
    assert loop.time() - started >= 0.19


async def test_slow_is_lifted_with_the_faults(archive_client: httpx.AsyncClient) -> None:
    await put_faults(archive_client, {"kind": "slow", "seconds": 3600}, {"kind": "fail"})
    waiting = asyncio.create_task(archive_client.get("/items/x"))
    async with asyncio.timeout(20):
        while not (await archive_client.get("/sandbox/stats")).json()["requests"]:  # noqa: ASYNC110 - asked over HTTP, which has no events
            await asyncio.sleep(0)
        await archive_client.delete("/sandbox/faults")
        assert (await waiting).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"faults": [{"kind": "explode"}]}, "faults.0.kind"),
        ({"faults": [{"kind": "slow", "seconds": "long"}]}, "faults.0.seconds"),
        ({"faults": [{"kind": "slow", "seconds": -1}]}, "faults.0.seconds"),
        ({"faults": [{"kind": "slow"}, {"kind": "fail", "status": 200}]}, "faults.1.status"),
        ({"faults": [{"kind": "fail", "times": 0}]}, "faults.0.times"),
        ({"faults": [{"kind": "fail", "path": "segment"}]}, "faults.0.path"),
        ({"faults": [{"kind": "fail", "color": "red"}]}, "faults.0.color"),
        ({"faults": [{"kind": "never_finish"}]}, "faults.0.kind"),
        ({"faults": {}}, "faults"),
        ([], "body"),
    ],
)
async def test_wrong_faults_are_told_what_is_wrong(archive_client: httpx.AsyncClient, body: Any, field: str) -> None:
    answer = await archive_client.put("/sandbox/faults", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(field)


async def test_statistics_name_routes_not_ids(runner_client: httpx.AsyncClient) -> None:
    for path in ("/tasks/a", "/tasks/b", "/nowhere/a", "/nowhere/b"):
        await runner_client.get(path)
    requests = (await runner_client.get("/sandbox/stats")).json()["requests"]
    assert requests == {"GET /tasks/{id}": 2, "unknown": 2}
