"""Where a request comes from: nobody says it of themselves."""

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from gateway.origin import Origin, OriginMiddleware, client_address, network_of, origin, origin_of_scope

pytestmark = [pytest.mark.security, pytest.mark.security_authentication]

PEER = "10.0.0.9"


@pytest.mark.parametrize("forwarded", [[], ["203.0.113.1"], ["203.0.113.1, 203.0.113.2"], ["garbage"], ["a", "b"]])
def test_without_proxies_the_header_is_not_believed(settings, forwarded):
    settings.NUM_PROXIES = 0
    assert client_address(PEER, forwarded) == PEER


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client"),
    [
        (1, ["203.0.113.1"], "203.0.113.1"),
        (1, ["6.6.6.6, 203.0.113.1"], "203.0.113.1"),
        (1, ["6.6.6.6", "203.0.113.1"], "203.0.113.1"),
        (1, ["6.6.6.6,,,203.0.113.1"], "203.0.113.1"),
        (1, ["6.6.6.6," * 5000 + "203.0.113.1"], "203.0.113.1"),
        (2, ["203.0.113.1, 10.0.0.1"], "203.0.113.1"),
        (2, ["6.6.6.6, 203.0.113.1, 10.0.0.1"], "203.0.113.1"),
        (2, ["6.6.6.6, 203.0.113.1", "10.0.0.1"], "203.0.113.1"),
        (3, ["6.6.6.6,203.0.113.1,10.0.0.1,10.0.0.2"], "203.0.113.1"),
    ],
)
def test_behind_proxies_what_they_appended_is_believed_and_nothing_before_it(settings, proxies, forwarded, client):
    settings.NUM_PROXIES = proxies
    assert client_address(PEER, forwarded) == client


@pytest.mark.parametrize(("proxies", "forwarded"), [(1, []), (2, []), (2, ["6.6.6.6"]), (3, ["6.6.6.6, 7.7.7.7"])])
def test_who_came_around_the_proxies_is_who_they_are(settings, proxies, forwarded):
    settings.NUM_PROXIES = proxies
    assert client_address(PEER, forwarded) == PEER


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.1:4711", "203.0.113.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("[::ffff:cb00:7101]:80", "203.0.113.1"),
        ("fe80::1%eth0", "fe80::1"),
        (" 203.0.113.1 ", "203.0.113.1"),
    ],
)
def test_an_address_has_one_form_however_it_was_written(settings, written, address):
    settings.NUM_PROXIES = 1
    assert client_address(PEER, [written]) == address


@pytest.mark.parametrize(
    "garbage",
    [
        *("", " ", "unknown", "_hidden", "localhost", "203.0.113", "203.0.113.256", "203.0.113.01", "1.2.3.4:"),
        *("1.2.3.4:x", "[", "[]", "[1", "1]", "[1.2.3.4", "2001:db8::g", "1.2.3.4\0", "é", "٣.٣.٣.٣", "203.0.113.1 7"),
        "1" * 10_000,
    ],
)
def test_what_is_no_address_is_none(settings, garbage):
    settings.NUM_PROXIES = 1
    assert client_address(PEER, [garbage]) is None
    settings.NUM_PROXIES = 0
    assert client_address(garbage, []) is None


def test_a_peer_may_have_no_address(settings):
    assert client_address(None, ["203.0.113.1"]) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (None, None),
        ("203.0.113.1", "203.0.113.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
    ],
)
def test_one_client_has_one_network(address, network):
    assert network_of(address) == network


def test_a_request_has_an_origin_while_it_is_served_and_the_next_has_another(settings):
    settings.NUM_PROXIES = 1
    seen = []

    def serve(_request):
        seen.append(origin())
        return HttpResponse()

    answer = OriginMiddleware(serve)
    headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.1", "User-Agent": "Mozilla\x07\x1b[31m" + "x" * 400}
    answer(RequestFactory().get("/", REMOTE_ADDR=PEER, headers=headers))
    answer(RequestFactory().get("/", REMOTE_ADDR=PEER))
    assert seen == [Origin("203.0.113.1", ("Mozilla[31m" + "x" * 400)[:300]), Origin(PEER)]
    assert origin() == Origin()


def test_the_origin_of_one_request_is_not_that_of_the_next_after_an_error():
    def fail(_request):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        OriginMiddleware(fail)(RequestFactory().get("/", REMOTE_ADDR=PEER))
    assert origin() == Origin()


def test_a_socket_has_an_origin_too(settings):
    headers = [(b"x-forwarded-for", b"6.6.6.6"), (b"X-Forwarded-For", b"203.0.113.1"), (b"user-agent", b"caf\xe9\x00")]
    scope = {"client": (PEER, 4711), "headers": headers}
    settings.NUM_PROXIES = 0
    with origin_of_scope(scope):
        assert origin() == Origin(PEER, "café")
    settings.NUM_PROXIES = 1
    with origin_of_scope(scope) as known:
        assert origin() is known
        assert known.address == "203.0.113.1"
    assert origin() == Origin()


@pytest.mark.parametrize("scope", [{}, {"client": None, "headers": []}, {"client": ("", 0)}])
def test_a_socket_may_have_no_address(scope):
    with origin_of_scope(scope):
        assert origin() == Origin()
