"""An instance as a service registers it, for the tests of what comes of that."""

from typing import Any

SERVICES = "/api/v2/services"
SCOPES = ("integrations.view_serviceinstance", "integrations.register_serviceinstance")
ONE = {"kind": "runner", "base_url": "http://127.0.0.1:9102", "version": "2.1", "weight": 3, "tags": ["gpu"]}


def path_of(row: dict[str, Any], tail: str = "") -> str:
    return f"{SERVICES}/{row['id']}{tail}"


def registered(client: Any, **change: Any) -> Any:
    answer = client.post(SERVICES, {**ONE, **change})
    assert answer.status_code in (200, 201), answer.content
    return answer.json()
