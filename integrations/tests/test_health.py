import pytest

from integrations.health import check_instances
from integrations.registry import Instance, ServiceKind


def ask(server, settings, kind, dialect="standard"):
    settings.SERVICE_URLS = {"segmentation": [], "runner": [], "archive": []} | {kind: [server.url]}
    settings.SERVICE_DIALECTS = settings.SERVICE_DIALECTS | {kind: dialect}
    [(instance, healthy)] = check_instances().items()
    assert instance == Instance(ServiceKind(kind), server.url, dialect)
    return healthy


@pytest.mark.parametrize(
    ("said", "healthy"),
    [
        ({"status": "ok", "service": "archive"}, True),
        ({"status": "UP"}, True),
        (b"OK", True),
        (b"OK\n", True),
        ({"status": "DOWN"}, False),
        (b"<html>", False),
        ({}, False),
    ],
)
def test_services_say_in_their_own_words_that_they_are_well(server, settings, said, healthy):
    server.says(said)
    assert ask(server, settings, "archive", "b") is healthy
    assert server.requests[0][:2] == ("GET", "/health")


def test_a_dialect_is_asked_where_it_answers(server, settings):
    server.says({"status": "ok"})
    assert ask(server, settings, "runner", "b")
    assert server.requests[0][:2] == ("GET", "/api/v1/health")
