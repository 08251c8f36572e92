"""Which instance is taken: in turn, by weight, by tag, and only who takes work and is well."""

import random
from collections import Counter
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from django_redis import get_redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError

from integrations import fleet, registry
from integrations.checks import check_balancing
from integrations.clients import breaker
from integrations.clients.breaker import protected
from integrations.clients.errors import NotTakenError, Reason, TransientError
from integrations.models import ServiceInstance, Source
from integrations.registry import Instance, ServiceKind, choose, instances

pytestmark = pytest.mark.django_db

ONE, TWO, THREE = "http://one", "http://two", "http://three"
RUNNER = ServiceKind.RUNNER


@pytest.fixture(autouse=True)
def _three_runners(settings):
    settings.SERVICE_URLS = {"segmentation": [], "runner": [ONE, f"{TWO}/", THREE], "archive": []}
    for url in (ONE, TWO, THREE):
        instance(url)


def instance(url, **fields):
    return ServiceInstance.objects.create(kind=RUNNER, base_url=url, source=Source.SETTINGS, **fields)


def change(url, **fields):
    ServiceInstance.objects.filter(base_url=url).update(**fields)


def turns(number=60, **options):
    return Counter(choose(RUNNER, **options).base_url for _ in range(number))


def test_the_load_is_spread_evenly():
    assert turns() == {ONE: 20, TWO: 20, THREE: 20}


def test_by_weight_and_not_in_lumps():
    change(ONE, weight=3)
    order = [choose(RUNNER).base_url for _ in range(50)]
    assert Counter(order) == {ONE: 30, TWO: 10, THREE: 10}
    assert not any(len(set(order[at : at + 4])) == 1 for at in range(47))


def test_without_redis_it_is_spread_by_chance(monkeypatch):
    def down(_alias):
        tries.append(1)
        raise RedisConnectionError

    tries = []
    monkeypatch.setattr(fleet, "get_redis_connection", down)
    assert set(turns()) == {ONE, TWO, THREE}
    assert len(tries) == 1  # it may hang: not every choice waits for it


@pytest.mark.parametrize("state", [{"is_draining": True}, {"is_disabled": True}])
def test_who_takes_no_work_is_not_chosen(state):
    change(TWO, **state)
    assert turns().keys() == {ONE, THREE}
    for url in (ONE, THREE):
        change(url, **state)
    with pytest.raises(TransientError):
        choose(RUNNER)


def test_who_has_work_is_asked_after_it_whatever_became_of_it_and_nobody_else_is(settings):
    change(ONE, is_draining=True, is_healthy=False)
    change(TWO, is_disabled=True)
    change(THREE, left_at=timezone.now())
    for url in (ONE, TWO, THREE, f"{TWO}:80/"):
        assert choose(RUNNER, prefer=url).base_url == url.removesuffix(":80/")
    settings.SERVICE_URLS = {**settings.SERVICE_URLS, "runner": ["http://new"]}
    assert choose(RUNNER, prefer="http://new").base_url == "http://new"
    for url in ("http://gone", ""):
        with pytest.raises(TransientError):
            choose(RUNNER, prefer=url)


def test_who_has_left_gets_nothing_but_its_tag_is_still_asked_for():
    change(TWO, left_at=timezone.now(), tags=["gpu"])
    assert turns().keys() == {ONE, THREE}
    ServiceInstance.objects.create(kind=ServiceKind.ARCHIVE, base_url="http://archive", source=Source.API, tags=["gpu"])
    with pytest.raises(TransientError):
        choose(RUNNER, tag="gpu")


def test_what_is_known_to_be_ill_is_not_chosen():
    change(TWO, is_healthy=False)
    change(THREE, is_healthy=True)
    assert turns().keys() == {ONE, THREE}


def test_one_that_was_registered_is_not_chosen_before_it_was_found_healthy():
    change(ONE, source="api")
    assert turns().keys() == {TWO, THREE}
    for url in (TWO, THREE):
        change(url, is_healthy=False)
    assert turns().keys() == {ONE, TWO, THREE}  # nobody is known to be well
    change(ONE, is_healthy=True)
    assert turns().keys() == {ONE}


def test_one_whose_breaker_is_open_is_not_chosen_and_then_by_one_call_that_finds_out():
    for _ in range(breaker.FAILURES):
        with pytest.raises(TransientError), protected(TWO, "POST"):
            raise TransientError(Reason.TIMEOUT, no_answer=True)
    assert turns(number=6).keys() == {ONE, THREE}
    get_redis_connection("default").hset(f"service-breaker:POST {TWO}", "opened_at", 1)
    assert {choose(RUNNER, may_probe=False).base_url for _ in range(6)} == {ONE, THREE}  # which takes nobody's turn
    assert turns(number=30)[TWO] == 1
    with protected(TWO, "POST"):
        assert turns(number=6).keys() == {ONE, THREE}
    assert turns(number=6) == {ONE: 2, TWO: 2, THREE: 2}


def test_the_turns_are_fair_though_the_candidates_change_all_the_time():
    """As when commands avoid who failed last: every second call leaves one out."""
    seen = {None: Counter(), ONE: Counter()}
    for number in range(60):
        avoid = ONE if number % 2 else None
        seen[avoid][choose(RUNNER, avoid=avoid).base_url] += 1
    assert seen[None] == {ONE: 10, TWO: 10, THREE: 10}
    assert seen[ONE] == {TWO: 15, THREE: 15}
    keys = get_redis_connection("default").keys("service-turn:*")
    assert len(keys) == 2
    assert all(get_redis_connection("default").ttl(key) > 0 for key in keys)


def test_the_turns_are_fair_though_the_candidates_are_seldom_the_same():
    """As when half of many instances are full at any moment, and others each time."""
    chance = random.Random(1)  # noqa: S311 - the same in each run
    known = [Instance(RUNNER, f"http://r{number:02}") for number in range(12)]
    seen = Counter(registry._next_in_turn(RUNNER, sorted_sample(chance, known)).base_url for _ in range(600))
    assert all(30 <= seen[each.base_url] <= 70 for each in known)


def sorted_sample(chance, known):
    return sorted(chance.sample(known, 6), key=lambda each: each.base_url)


def test_one_with_as_many_calls_as_it_may_have_is_passed_over(settings):
    settings.SERVICE_MAX_IN_FLIGHT = 1
    with protected(ONE, "POST"), protected(TWO, "GET"):
        assert turns(number=6).keys() == {THREE}
        with protected(THREE, "GET"):
            change(THREE, is_draining=True)
            with pytest.raises(NotTakenError) as raised:
                choose(RUNNER)
            assert raised.value.reason is Reason.BUSY
            assert choose(RUNNER, prefer=ONE).base_url == ONE


def test_the_one_with_the_fewest_calls_for_its_weight(settings):
    settings.SERVICE_BALANCING = "least_in_flight"
    change(THREE, weight=4)
    with protected(ONE, "POST"), protected(THREE, "GET"), protected(THREE, "POST"):
        assert turns(number=6) == {TWO: 6}
        with protected(TWO, "GET"), protected(TWO, "GET"):
            assert turns(number=6) == {THREE: 6}
    assert turns().keys() == {ONE, TWO, THREE}  # equals, by chance
    assert get_redis_connection("default").keys("service-turn:*") == []


@pytest.mark.parametrize(("name", "value"), [("SERVICE_BALANCING", "random"), ("SERVICE_MAX_IN_FLIGHT", 0)])
def test_a_setting_that_makes_no_sense_is_refused_at_the_start(settings, name, value):
    check_balancing()
    setattr(settings, name, value)
    with pytest.raises(ImproperlyConfigured, match=name):
        check_balancing()


def test_if_none_is_well_any_is_better_than_none():
    ServiceInstance.objects.update(is_healthy=False)
    assert turns().keys() == {ONE, TWO, THREE}


def test_who_sends_no_heartbeat_has_gone():
    long_ago = timezone.now() - timedelta(seconds=61)
    change(ONE, source="api", time_to_live=60, heartbeat_at=long_ago, is_healthy=True)
    assert turns().keys() == {TWO, THREE}


def test_a_tag_is_asked_for():
    change(TWO, tags=["gpu", "large"])
    assert turns(tag="gpu").keys() == {TWO}
    with pytest.raises(TransientError):
        choose(RUNNER, tag="gp")


def test_a_tag_of_other_services_only_is_not_asked_for_here():
    ServiceInstance.objects.create(
        kind=ServiceKind.ARCHIVE, base_url="http://archive", source=Source.API, tags=["cold"]
    )
    assert turns(tag="cold").keys() == {ONE, TWO, THREE}


def test_the_one_that_failed_last_is_avoided():
    assert turns(avoid=ONE).keys() == {TWO, THREE}
    change(TWO, is_healthy=False)
    change(THREE, is_healthy=False)
    assert turns(avoid=ONE).keys() == {ONE}


def test_the_instances_of_the_settings_are_there_before_the_first_check():
    ServiceInstance.objects.all().delete()
    assert [each.base_url for each in instances(RUNNER)] == [ONE, THREE, TWO]
    assert turns().keys() == {ONE, TWO, THREE}


def test_those_that_left_are_not_looked_at_but_for_those_that_the_settings_name():
    """A choice must not cost more with each that left; and what was disabled stays so."""
    change(TWO, is_disabled=True, left_at=timezone.now())
    instance("http://gone", left_at=timezone.now())
    assert [(each.base_url, each.takes_work) for each in instances(RUNNER)] == [
        (ONE, True),
        (THREE, True),
        (TWO, False),
    ]


def test_without_any_instance_the_error_says_so():
    with pytest.raises(TransientError):
        choose(ServiceKind.ARCHIVE)


def test_a_choice_costs_one_query(django_assert_num_queries):
    with django_assert_num_queries(1):
        choose(RUNNER)
