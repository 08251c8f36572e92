import pytest

from integrations.clients.errors import TransientError
from integrations.registry import Instance, ServiceKind, choose, remember_health

ONE, TWO, THREE = "http://one", "http://two", "http://three"
RUNNER = ServiceKind.RUNNER


@pytest.fixture(autouse=True)
def _three_runners(settings):
    settings.SERVICE_URLS = {"segmentation": [], "runner": [ONE, f"{TWO}/", THREE], "archive": []}


def chosen(**options):
    return {choose(RUNNER, **options).base_url for _ in range(100)}


def test_the_load_is_spread():
    assert chosen() == {ONE, TWO, THREE}


def test_what_is_known_to_be_unhealthy_is_not_chosen():
    remember_health(Instance(RUNNER, TWO), healthy=False)
    assert chosen() == {ONE, THREE}


def test_if_none_is_healthy_any_is_better_than_none():
    for url in (ONE, TWO, THREE):
        remember_health(Instance(RUNNER, url), healthy=False)
    assert chosen() == {ONE, TWO, THREE}


def test_the_one_that_failed_last_is_avoided():
    assert chosen(avoid=ONE) == {TWO, THREE}


def test_the_only_one_is_not_avoided(settings):
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": [ONE]}
    assert chosen(avoid=ONE) == {ONE}


def test_the_one_that_has_the_work_is_preferred_even_if_unhealthy():
    remember_health(Instance(RUNNER, TWO), healthy=False)
    assert chosen(prefer=TWO) == {TWO}


def test_one_that_is_no_longer_there_is_replaced():
    assert chosen(prefer="http://gone") == {ONE, TWO, THREE}


def test_without_any_instance_the_error_says_so():
    with pytest.raises(TransientError):
        choose(ServiceKind.ARCHIVE)
