"""The instances that the settings name come and go by themselves; what others registered stays."""

from datetime import timedelta

import pytest

from accounts.tests.people import person
from integrations import discovery
from integrations.discovery import sync_instances
from integrations.models import ServiceInstance, ServiceKind, Source

pytestmark = pytest.mark.django_db

RUNNER = ServiceKind.RUNNER


@pytest.fixture
def runners(settings):
    """Call it with what the settings name from now on, for those that are there then."""

    def named(*urls):
        settings.SERVICE_URLS = {"segmentation": [], "runner": list(urls), "archive": []}
        sync_instances()
        return dict(ServiceInstance.objects.filter(left_at=None).values_list("base_url", "source"))

    return named


@pytest.fixture
def at_once(monkeypatch):
    """What is not named any more leaves with the next look."""
    monkeypatch.setattr(discovery, "UNNAMED_KEPT", timedelta())


def test_they_come_and_go_with_the_settings(runners, at_once):
    assert runners("http://one/", "http://two:80") == {"http://one": "settings", "http://two": "settings"}
    before = {row.base_url: row.id for row in ServiceInstance.objects.all()}
    ServiceInstance.objects.update(is_disabled=True, weight=7)
    assert runners("http://two", "http://three").keys() == {"http://two", "http://three"}
    assert runners("http://one", "http://three").keys() == {"http://one", "http://three"}
    row = ServiceInstance.objects.get(base_url="http://one")  # it was kept, and with it what an administrator did
    assert (row.id, row.is_disabled, row.weight) == (before["http://one"], True, 7)


def test_workers_with_older_and_newer_settings_take_nothing_from_each_other(runners):
    runners("http://one", "http://two")
    assert runners("http://one").keys() == {"http://one", "http://two"}
    long_ago = ServiceInstance.objects.get(base_url="http://two").heartbeat_at - timedelta(seconds=61)
    ServiceInstance.objects.update(heartbeat_at=long_ago)
    assert runners("http://one").keys() == {"http://one"}


def test_what_was_registered_stays(runners, at_once):
    ServiceInstance.objects.create(kind=RUNNER, base_url="http://registered", source=Source.API)
    assert runners("http://one") == {"http://one": "settings", "http://registered": "api"}
    assert runners() == {"http://registered": "api"}


def test_one_that_was_registered_before_the_settings_named_it_is_one_of_the_settings(runners, settings):
    settings.SERVICE_DIALECTS = settings.SERVICE_DIALECTS | {"runner": "b"}
    ServiceInstance.objects.create(
        kind=RUNNER, base_url="http://one", source=Source.API, time_to_live=15, weight=7, registered_by=person("owner")
    )
    assert runners("http://one") == {"http://one": "settings"}
    row = ServiceInstance.objects.get()
    assert (row.time_to_live, row.weight, row.dialect, row.registered_by) == (None, 7, "b", None)


def test_what_an_administrator_changed_stays(runners):
    runners("http://one")
    ServiceInstance.objects.update(weight=7, is_draining=True)
    runners("http://one")
    row = ServiceInstance.objects.get()
    assert (row.weight, row.is_draining) == (7, True)


def test_a_name_stands_for_each_of_its_addresses(runners, at_once, dns):
    dns["runner.internal"] = ["10.0.0.2", "10.0.0.1", "10.0.0.2"]
    found = runners("dns+http://runner.internal:9000/base", "http://one")
    assert found == {"http://10.0.0.1:9000/base": "dns", "http://10.0.0.2:9000/base": "dns", "http://one": "settings"}
    dns["runner.internal"] = ["10.0.0.2", "fd00::3"]
    found = runners("dns+http://runner.internal:9000/base")
    assert found.keys() == {"http://10.0.0.2:9000/base", "http://[fd00::3]:9000/base"}
    assert runners("dns+https://runner.internal").keys() == {"https://10.0.0.2", "https://[fd00::3]"}


def test_while_a_name_cannot_be_resolved_all_stays_as_it_is(runners, at_once, dns):
    dns["runner.internal"] = ["10.0.0.1"]
    before = runners("dns+http://runner.internal:9000")
    dns.clear()
    assert runners("dns+http://runner.internal:9000") == before
