import json

import pytest

from integrations.clients.base import WorkState
from integrations.clients.dialects import client_for
from integrations.clients.errors import InvalidAnswerError
from integrations.clients.segmentation import SegmentRequest
from integrations.registry import Instance, ServiceKind

ANSWER = {
    "segmentation_id": "7",
    "status": "success",
    "alt_file_path": "/some/dir/7.alt",
    "message": "Segmented",
    "mode_used": "Dream",
    "persona_used": "researcher",
}


@pytest.fixture
def client(server, settings, tmp_path):
    settings.SERVICE_SHARED_DIRS = {"segmentation": str(tmp_path)}
    settings.SERVICE_REMOTE_DIRS = {"segmentation": "/some/dir"}
    return client_for(Instance(ServiceKind.SEGMENTATION, server.url, "b"))


def segment(client, mode="dream"):
    return client.submit(SegmentRequest("echo hello", mode, "researcher", "somebody", {}), idempotency_key="c:s")


def test_the_answer_of_the_contract_is_read_and_the_file_found(client, server, tmp_path):
    server.says(ANSWER)
    (tmp_path / "7.alt").write_text("id: '7'")
    report = segment(client)
    assert (report.remote_id, report.state, report.file_id) == ("7", WorkState.DONE, "7.alt")
    assert client.fetch(report.file_id) == "id: '7'"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("mode", "spelt"), [("normal", "Normal"), ("dream", "Dream"), ("explore", "Explore"), ("chaos", "Chaos")]
)
def test_modes_are_spelt_with_a_capital_letter(client, server, mode, spelt):
    server.says(ANSWER)
    segment(client, mode)
    body = json.loads(server.requests[0][3])
    assert body == {"command": "echo hello", "mode": spelt, "persona": "researcher", "metadata": {}}


def test_a_failure_is_reported_with_what_it_says(client, server):
    server.says({"segmentation_id": "7", "status": "error", "message": "no words"})
    report = segment(client)
    assert (report.state, report.file_id, report.error) == (WorkState.FAILED, None, "no words")


@pytest.mark.parametrize(
    "changes",
    [
        {"alt_file_path": None},
        {"alt_file_path": ""},
        {"alt_file_path": 5},
        {"alt_file_path": "/etc/passwd"},
        {"alt_file_path": "/some/dir/../secret.alt"},
        {"alt_file_path": "7.alt"},
        {"alt_file_path": "/some/dir/a\0.alt"},
        {"segmentation_id": None},
        {"status": "sleeping"},
    ],
)
def test_an_answer_that_makes_no_sense_is_invalid(client, server, changes):
    server.says(ANSWER | changes)
    with pytest.raises(InvalidAnswerError):
        segment(client)
