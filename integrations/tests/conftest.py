import socket
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rest_framework.test import APIClient

from accounts.models import User
from accounts.tests.people import client_with_key, person_with
from integrations import addresses, fleet
from integrations.alarms.models import AlarmRule, Condition
from integrations.clients import http
from integrations.models import ServiceInstance
from integrations.tests.registering import SCOPES
from integrations.tests.servers import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    http.forget_connections()
    server.close()


@pytest.fixture(autouse=True)
def dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each name resolves to. A name that is not there cannot be resolved: no test asks the real resolver."""
    names: dict[str, list[str]] = {}

    def resolve(host: str) -> list[str]:
        if host not in names:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return names[host]

    monkeypatch.setattr(addresses, "_resolve", resolve)
    return names


@pytest.fixture
def owner(db: None) -> User:
    return person_with("owner", "service")


@pytest.fixture
def machine(owner: User, settings: Any) -> APIClient:
    """The client of a service on this machine: an API key of role `service`."""
    settings.SERVICE_PRIVATE_ADDRESSES = True
    return client_with_key(owner, *SCOPES)


@pytest.fixture
def _no_rules(db):
    AlarmRule.objects.all().delete()


@pytest.fixture
def runner(db):
    return ServiceInstance.objects.create(kind="runner", base_url="http://runner", source="admin")


@pytest.fixture
def rule(db):
    return AlarmRule.objects.create(condition=Condition.INSTANCE_DOWN, severity="critical", wait=60, resolve_wait=120)


@pytest.fixture
def no_redis(monkeypatch):
    """Redis is away. Returns how often it was asked."""
    tries: list[int] = []

    def down(_alias):
        tries.append(1)
        raise RedisConnectionError

    monkeypatch.setattr(fleet, "get_redis_connection", down)
    return tries
