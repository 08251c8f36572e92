"""Nobody makes the gateway call what it should not, by registering it as a service."""

import threading

import pytest
from rest_framework.exceptions import ValidationError

from integrations import addresses
from integrations.addresses import AddressError, is_allowed, normalized
from integrations.services import checked_base_url

pytestmark = [pytest.mark.security, pytest.mark.security_access]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://runner:9000", "http://runner:9000"),
        ("HTTP://Runner:9000/", "http://runner:9000"),
        ("https://runner/base/", "https://runner/base"),
        ("http://runner:80", "http://runner"),
        ("https://runner.:0443/", "https://runner"),
        ("https://runner:80", "https://runner:80"),
        ("http://127.1:9000", "http://127.0.0.1:9000"),
        ("http://0177.0.0.0x1", "http://127.0.0.1"),
        ("http://2130706433.", "http://127.0.0.1"),
        ("http://[2001:DB8:0::1]:80", "http://[2001:db8::1]"),
        ("http://[::ffff:10.0.0.1]:9000", "http://10.0.0.1:9000"),
    ],
)
def test_a_url_has_one_form(given, url):
    assert normalized(given) == normalized(url) == url


@pytest.mark.parametrize(
    "given",
    [
        *("", "runner", "//runner", "file:///etc/passwd", "gopher://runner", "ftp://runner", "http://", "http:///x"),
        *("http://user:pw@runner", "http://user@runner", "http://runner?x=1", "http://runner#x", "http://run ner"),
        *("http://runner:x", "http://runner:99999", "http://[::1", "http://runner\\@other", "http://rünner"),
        *("http://runner\n", "http://runner\0", "http://" + "r" * 300, "http://runner:0", "http://[fe80::1%eth0]"),
        *("http://runner/.", "http://runner/../x", "http://runner/./x", "http://runner/x/..", "http://runner//x"),
        *("http://runner/;x", "http://runner/%2e", "http://run%6eer", "http://runner//", "http://run\tner"),
        *("http://runner..", "http://1.2.3.4.5", "http://08", "http://x.0x", "http://a,b", "http://runner/x\\y"),
    ],
)
def test_what_is_no_address_of_a_service_is_refused(given):
    with pytest.raises(AddressError):
        normalized(given)


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "fe80::1", "fe80::1%eth0", "224.0.0.1", "0.0.0.0", "::", "240.0.0.1"),
        *("::ffff:169.254.169.254", "::169.254.169.254", "2002:a9fe:a9fe::1", "2001:0:1::1", "64:ff9b::a9fe:a9fe"),
        *("64:ff9b:1::1", "fec0::1", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"),
    ],
)
@pytest.mark.parametrize("private", [True, False])
def test_some_addresses_are_never_allowed(settings, address, private):
    settings.SERVICE_PRIVATE_ADDRESSES = private
    assert not is_allowed(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
)
def test_private_ones_are_allowed_by_a_setting(settings, address):
    for allowed in (True, False):
        settings.SERVICE_PRIVATE_ADDRESSES = allowed
        assert is_allowed(address) is allowed


def test_a_public_one_is_allowed(settings):
    settings.SERVICE_PRIVATE_ADDRESSES = False
    assert is_allowed("93.184.215.14")


@pytest.mark.parametrize("url", ["http://127.0.0.1:6379", "http://inside", "http://[::1]:80", "http://0x7f.1"])
def test_however_it_is_written(settings, dns, url):
    settings.SERVICE_PRIVATE_ADDRESSES = False
    dns["inside"] = ["93.184.215.14", "127.0.0.1"]
    with pytest.raises(ValidationError) as refused:
        checked_base_url(url)
    assert refused.value.get_codes() == {"base_url": ["invalid"]}


def test_a_name_that_nobody_knows_is_refused():
    with pytest.raises(ValidationError, match="cannot be resolved"):
        checked_base_url("http://nowhere.invalid")


def test_a_resolver_that_hangs_holds_nobody_up(monkeypatch):
    answers = threading.Event()
    monkeypatch.setattr(addresses, "_resolve", lambda _host: answers.wait(30))
    monkeypatch.setattr(addresses, "RESOLVE_SECONDS", 0.05)
    try:
        with pytest.raises(ValidationError, match="cannot be resolved"):
            checked_base_url("http://slow.example")
        assert not answers.is_set()
    finally:
        answers.set()
