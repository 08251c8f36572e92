"""The room `services`: who may see instances hears when one is in another state."""

from datetime import datetime

import pytest

from accounts.tests.people import person, role_with
from integrations.health import Look, checked
from integrations.models import ServiceInstance
from integrations.services import instance_change, instance_leaves
from notifications import consumers

pytestmark = pytest.mark.django_db(transaction=True)

SEE = "integrations.view_serviceinstance"
ROOM = {"rooms": ["services"]}


@pytest.fixture
def runner(db):
    return ServiceInstance.objects.create(kind="runner", base_url="http://runner", source="api", told_state="unhealthy")


def test_who_may_see_instances_hears_of_every_change(runner, admin, dial_as):
    client = dial_as(person("operator", SEE))
    assert client.ask("subscribe", ROOM)["payload"] == {"rooms": ["services"], "denied": []}
    service = {"id": str(runner.id), "kind": "runner", "base_url": "http://runner"}
    checked(runner.id, Look(ok=True, reason="", latency_ms=1))
    first = client.expect("service.changed")
    assert first == {"service": service, "state": "healthy", "reason": "", "at": first["at"]}
    for _ in range(2):
        checked(runner.id, Look(ok=False, reason="says 'DOWN'", latency_ms=1))
    second = client.expect("service.changed")
    assert second == {"service": service, "state": "unhealthy", "reason": "says 'DOWN'", "at": second["at"]}
    assert datetime.fromisoformat(first["at"]) < datetime.fromisoformat(second["at"])
    instance_change(actor=admin, instance=runner, changes={"is_disabled": True})
    assert client.expect("service.changed")["state"] == "disabled"
    assert client.ask("unsubscribe", ROOM)["payload"] == ROOM
    runner.refresh_from_db()
    instance_leaves(runner)
    client.assert_nothing_more()


@pytest.mark.security
@pytest.mark.security_access
def test_nobody_else_does_and_who_may_no_more_is_shown_out(runner, alice, dial_as, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 600)
    stranger = dial_as(alice)
    denied = [{"room": "services", "code": "permission_denied"}]
    assert stranger.ask("subscribe", ROOM)["payload"] == {"rooms": [], "denied": denied}
    role = role_with("operators", SEE)
    operator = person("operator")
    operator.groups.add(role)
    client = dial_as(operator)
    assert client.ask("subscribe", ROOM)["payload"]["rooms"] == ["services"]
    checked(runner.id, Look(ok=True, reason="", latency_ms=1))
    client.expect("service.changed")
    stranger.assert_nothing_more()
    operator.groups.remove(role)
    assert (client.expect("error")["code"], client.close_code()) == ("permission_denied", 4403)
