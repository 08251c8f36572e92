"""The instances that the settings name come and go by themselves; what others registered stays."""

import socket

import pytest

from integrations.discovery import sync_instances
from integrations.models import ServiceInstance, ServiceKind, Source

pytestmark = pytest.mark.django_db

RUNNER = ServiceKind.RUNNER


@pytest.fixture
def runners(settings):
    def named(*urls):
        settings.SERVICE_URLS = {"segmentation": [], "runner": list(urls), "archive": []}
        sync_instances()
        return dict(ServiceInstance.objects.filter(kind=RUNNER).values_list("base_url", "source"))

    return named


@pytest.fixture
def dns(monkeypatch):
    """What each name resolves to; a name that is not there cannot be resolved."""
    names = {}

    def getaddrinfo(host, port, **_options):
        if host not in names:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in names[host]]

    monkeypatch.setattr("integrations.discovery.socket.getaddrinfo", getaddrinfo)
    return names


def test_they_come_and_go_with_the_settings(runners):
    assert runners("http://one/", "http://two") == {"http://one": "settings", "http://two": "settings"}
    first = ServiceInstance.objects.get(base_url="http://two").id
    assert runners("http://two", "http://three").keys() == {"http://two", "http://three"}
    assert ServiceInstance.objects.get(base_url="http://two").id == first


def test_what_was_registered_stays(runners):
    ServiceInstance.objects.create(kind=RUNNER, base_url="http://registered", source=Source.API)
    assert runners("http://one") == {"http://one": "settings", "http://registered": "api"}
    assert runners() == {"http://registered": "api"}


def test_one_that_was_registered_before_the_settings_named_it_is_one_of_the_settings(runners, settings):
    settings.SERVICE_DIALECTS = settings.SERVICE_DIALECTS | {"runner": "b"}
    ServiceInstance.objects.create(kind=RUNNER, base_url="http://one", source=Source.API, time_to_live=5, weight=7)
    assert runners("http://one") == {"http://one": "settings"}
    row = ServiceInstance.objects.get()
    assert (row.time_to_live, row.weight, row.dialect) == (None, 7, "b")


def test_what_an_administrator_changed_stays(runners):
    runners("http://one")
    ServiceInstance.objects.update(weight=7, is_draining=True)
    runners("http://one")
    row = ServiceInstance.objects.get()
    assert (row.weight, row.is_draining) == (7, True)


def test_a_name_stands_for_each_of_its_addresses(runners, dns):
    dns["runner.internal"] = ["10.0.0.2", "10.0.0.1", "10.0.0.2"]
    found = runners("dns+http://runner.internal:9000/base", "http://one")
    assert found == {"http://10.0.0.1:9000/base": "dns", "http://10.0.0.2:9000/base": "dns", "http://one": "settings"}
    dns["runner.internal"] = ["10.0.0.2", "fd00::3"]
    found = runners("dns+http://runner.internal:9000/base")
    assert found.keys() == {"http://10.0.0.2:9000/base", "http://[fd00::3]:9000/base"}


def test_while_a_name_cannot_be_resolved_all_stays_as_it_is(runners, dns):
    dns["runner.internal"] = ["10.0.0.1"]
    before = runners("dns+http://runner.internal:9000")
    dns.clear()
    assert runners("dns+http://runner.internal:9000") == before
