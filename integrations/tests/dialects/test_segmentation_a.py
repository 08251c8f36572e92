import json

from integrations.clients.base import WorkState
from integrations.clients.dialects import client_for
from integrations.clients.segmentation import SegmentRequest
from integrations.registry import Instance, ServiceKind


def test_it_is_asked_for_four_members_and_read_like_the_standard(server):
    server.says(
        {"id": "7", "status": "completed", "alt_file": "task_7.alt", "metadata": {"timestamp": "now", "language": "tr"}}
    )
    client = client_for(Instance(ServiceKind.SEGMENTATION, server.url, "a"))
    request = SegmentRequest("echo hello", "chaos", "researcher", "somebody", {"chaos_level": 3})
    report = client.submit(request, idempotency_key="c:segmentation")
    assert (report.remote_id, report.state, report.file_id) == ("7", WorkState.DONE, "task_7.alt")
    method, path, headers, body = server.requests[0]
    assert (method, path, headers["Idempotency-Key"]) == ("POST", "/segment", "c:segmentation")
    assert json.loads(body) == {
        "command": "echo hello",
        "mode": "chaos",
        "persona": "researcher",
        "metadata": {"chaos_level": 3},
    }
