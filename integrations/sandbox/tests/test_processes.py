"""The promises only real processes can keep or break."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from integrations.sandbox.identity import utc_now
from integrations.sandbox.tests.processes import CallbackReceiver, eventually

if TYPE_CHECKING:
    from integrations.sandbox.tests.conftest import StartService


def task(identity: str, description: str, *dependencies: str) -> dict[str, object]:
    return {"id": identity, "description": description, "dependencies": list(dependencies)}


def test_a_killed_segmentation_has_lost_nothing(start: StartService) -> None:
    service = start("segmentation")
    body = {"command": "echo a ve sonra echo b", "mode": "normal", "persona": "p"}
    headers = {"Idempotency-Key": "once"}
    first = service.client.post("/segment", json=body, headers=headers).json()
    content = service.client.get(f"/files/alt/{first['alt_file']}").json()
    service.kill()
    service.start()
    assert service.client.post("/segment", json=body, headers=headers).json() == first
    assert service.client.get(f"/segment/{first['id']}").json() == first
    assert service.client.get(f"/files/alt/{first['alt_file']}").json() == content
    stats = service.client.get("/sandbox/stats").json()
    assert (stats["works"], stats["works_by_key"]) == (1, {"once": 1})


def test_concurrent_repeats_do_the_work_once(start: StartService) -> None:
    service = start("runner")
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: service.run(task("a", "echo a"), key="k"), range(24)))
    assert len(set(ids)) == 1
    assert service.client.get("/sandbox/stats").json()["works_by_key"] == {"k": 1}


def test_a_killed_run_goes_on_where_it_was_and_repeats_nothing(start: StartService) -> None:
    service = start("runner")
    run_id = service.run(task("a", "date"), task("b", "sleep 1.5"), task("c", "echo c", "b"), key="k")
    eventually(lambda: service.client.get(f"/tasks/{run_id}").json()["progress"] > 33)
    service.kill()
    killed_at = utc_now()
    service.start()
    assert service.run(task("a", "date"), key="k") == run_id
    last = service.last(run_id)
    assert last["status"] == "success"
    assert last["task_results"]["a"]["output"] < killed_at < last["end_time"]
    assert last["execution_time_ms"] >= 1500
    assert [result["status"] for result in last["task_results"].values()] == ["success"] * 3


def test_a_finished_run_survives_a_kill(start: StartService) -> None:
    service = start("runner")
    run_id = service.run(task("a", "echo a"))
    before = service.finished(run_id), service.last(run_id)
    service.kill()
    service.start()
    assert (service.finished(run_id), service.last(run_id)) == before


def test_a_killed_archive_still_finds_its_items(start: StartService) -> None:
    service = start("archive")
    body = {"lastFileId": "x.last", "lastContent": {"title": "Güzel İş"}, "metadata": {"tags": ["t"]}}
    first = service.client.post("/archive", json=body, headers={"Idempotency-Key": "k"}).json()
    service.kill()
    service.start()
    assert service.client.post("/archive", json=body, headers={"Idempotency-Key": "k"}).json() == first
    found = service.client.post("/search", json={"query": "güzel iş"}).json()
    assert [item["id"] for item in found["results"]] == [first["id"]]


def test_drop_closes_the_connection_without_an_answer(start: StartService) -> None:
    service = start("archive")
    service.client.put("/sandbox/faults", json={"faults": [{"kind": "drop", "times": 1}]})
    # Closed, or reset if the body was not read yet: the kernel decides.
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        service.client.post("/search", json={"query": ""})
    assert service.client.post("/search", json={"query": ""}).status_code == 200


def test_hang_answers_nothing_until_it_is_lifted(start: StartService) -> None:
    service = start("archive")
    service.client.put("/sandbox/faults", json={"faults": [{"kind": "hang", "path": "/search"}]})
    with pytest.raises(httpx.ReadTimeout):
        service.client.post("/search", json={"query": ""}, timeout=0.3)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(service.client.post, "/search", json={"query": ""})
        eventually(lambda: service.client.get("/sandbox/stats").json()["requests"]["POST /search"] == 2)
        assert not hanging.done()
        service.client.delete("/sandbox/faults")
        assert hanging.result(20).status_code == 503


def test_sigterm_ends_a_hanging_service_quickly(start: StartService) -> None:
    service = start("archive")
    service.client.put("/sandbox/faults", json={"faults": [{"kind": "hang"}]})
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(service.client.get, "/archive/x")
        eventually(lambda: service.client.get("/sandbox/stats").json()["requests"])
        assert service.terminate() < 5
        assert hanging.exception(20) is not None or hanging.result().status_code >= 500


def test_callbacks_tell_start_progress_and_end(start: StartService) -> None:
    service = start("runner")
    with CallbackReceiver() as receiver:
        service.client.headers["X-Request-ID"] = "trace-me"
        run_id = service.run(task("a", "sleep 1.3"), callback_url=receiver.url)
        bodies = receiver.until_final()
    assert [body["status"] for body in bodies[:-1]] == ["running"] * (len(bodies) - 1)
    progress = [body["progress"] for body in bodies]
    assert progress == sorted(set(progress))
    assert 2 <= len(bodies) <= 4  # at most every half second
    assert {body["request_id"] for body in bodies} == {"trace-me"}
    final = {name: bodies[-1][name] for name in ("id", "status", "progress", "lastFileId")}
    assert final == service.client.get(f"/tasks/{run_id}").json()


def test_the_end_is_told_again_when_it_was_refused(start: StartService) -> None:
    service = start("runner")
    with CallbackReceiver(refuse_final=2) as receiver:
        service.run(task("a", "echo a"), callback_url=receiver.url)
        ends = [body for body in receiver.until_final() if "lastFileId" in body]
    assert [body["answered"] for body in ends] == [503, 503, 204]


def test_an_end_that_was_not_told_is_told_after_a_kill(start: StartService) -> None:
    service = start("runner")
    with CallbackReceiver(refuse_final=3) as receiver:
        service.run(task("a", "echo a"), callback_url=receiver.url)
        while receiver.bodies.get(timeout=20)["answered"] != 503:
            pass
        service.kill()
        service.start()
        assert receiver.until_final()[-1]["status"] == "completed"
