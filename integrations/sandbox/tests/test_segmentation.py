from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    import httpx

BODY = {"command": "echo Merhaba dünya ve ardından calc 6*7", "mode": "Normal", "persona": "technical_expert"}


async def segment(client: httpx.AsyncClient, **changes: Any) -> tuple[dict[str, Any], str, dict[str, Any]]:
    answer = await client.post("/segment", json={**BODY, **changes})
    assert answer.status_code == 200, answer.text
    name = answer.json()["alt_file"]
    content = (await client.get(f"/files/alt/{name}")).json()["content"]
    return answer.json(), content, yaml.safe_load(content)


async def test_the_alt_is_of_the_segments_dialect(segmentation_client: httpx.AsyncClient) -> None:
    answer, text, alt = await segment(segmentation_client)
    assert answer["status"] == "completed"
    assert answer["alt_file"] == f"task_{answer['id']}.alt"
    assert answer["metadata"]["language"] == "tr"
    assert "Merhaba dünya" in text
    assert alt["command"] == BODY["command"]
    first, second = alt["segments"]
    assert (first["content"], first["task_type"]) == ("echo Merhaba dünya", "echo")
    assert (second["content"], second["task_type"]) == ("calc 6*7", "calc")
    assert (first["dependencies"], second["dependencies"]) == ([], [first["id"]])
    assert first["parameters"] == [
        {
            "name": "content",
            "value": "echo Merhaba dünya",
            "type": "string",
            "required": True,
            "description": "Task content",
        }
    ]


async def test_the_answer_can_be_read_again(segmentation_client: httpx.AsyncClient) -> None:
    answer, _, _ = await segment(segmentation_client)
    assert (await segmentation_client.get(f"/segment/{answer['id']}")).json() == answer
    assert (await segmentation_client.get("/segment/none")).status_code == 404


async def test_chaos_has_a_level(segmentation_client: httpx.AsyncClient) -> None:
    _, _, alt = await segment(segmentation_client, mode="chaos", metadata={"chaos_level": 7})
    assert alt["chaos_level"] == 7
    _, _, alt = await segment(segmentation_client, metadata={"chaos_level": 7})
    assert alt["chaos_level"] is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"command": " \n"}, "command"),
        ({"command": 5}, "command"),
        ({"command": "x" * 100_001}, "command"),
        ({"command": "a;" * 1001}, "command"),
        ({"mode": "wild"}, "mode"),
        ({"metadata": []}, "metadata"),
        ({"mode": "chaos", "metadata": {"chaos_level": 11}}, "metadata.chaos_level"),
    ],
)
async def test_wrong_requests_are_told_what_is_wrong(
    segmentation_client: httpx.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    answer = await segmentation_client.post("/segment", json={**BODY, **changes})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{field}:")


async def test_uploads_are_served_again(segmentation_client: httpx.AsyncClient) -> None:
    upload = {"content": "x: 1", "metadata": {"originalName": "my.alt", "kind": "k", "name": "n"}}
    answer = await segmentation_client.post("/files/alt/upload", json=upload)
    name = answer.json()["altFileId"]
    assert (await segmentation_client.get(f"/files/alt/{name}")).json() == upload


async def test_a_key_does_the_work_once(segmentation_client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await segmentation_client.post("/segment", json=BODY, headers=headers)
    again = await segmentation_client.post("/segment", json=BODY, headers=headers)
    without = await segmentation_client.post("/segment", json=BODY)
    assert first.json() == again.json()
    assert without.json()["id"] != first.json()["id"]
    stats = (await segmentation_client.get("/sandbox/stats")).json()
    assert stats == {"requests": {"POST /segment": 3}, "works": 2, "works_by_key": {"k": 1}, "fault_hits": []}


@pytest.mark.parametrize("command", ["echo a", "echo a and echo b", "echo a; echo b; echo c"])
async def test_the_cycle_fault(segmentation_client: httpx.AsyncClient, command: str) -> None:
    await segmentation_client.put("/sandbox/faults", json={"faults": [{"kind": "cycle", "times": 1}]})
    _, _, alt = await segment(segmentation_client, command=command)
    segments = alt["segments"]
    assert segments[0]["dependencies"] == [segments[-1]["id"]]
    assert segments[-1]["dependencies"] == [segments[0]["id"]]
    _, _, alt = await segment(segmentation_client, command=command)
    assert alt["segments"][0]["dependencies"] == []
