"""docs/security.md says which test proves each requirement, and what the limits are: it must be true."""

import ast
import re
from collections import Counter
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

from accounts.api.serializers.me import MeChangeInput
from accounts.api.serializers.roles import RoleChangeInput
from accounts.api.serializers.users import UserChangeInput
from accounts.models import DeviceSession
from accounts.password_words import WORDS
from accounts.routes import routes
from accounts.services import api_keys, failed_sign_ins, passwords, profile, registration
from accounts.services.sessions import MAX_OPEN_SESSIONS
from gateway.api.permissions import Access
from notifications import tickets

pytestmark = [pytest.mark.security, pytest.mark.security_access]

DOCUMENT = (Path(settings.BASE_DIR) / "docs/security.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \|(.+)\|(.+)\|$", DOCUMENT, re.MULTILINE)
TEST = re.compile(r"`([\w/]+/test_\w+\.py)::(test_\w+)`")
TESTS = sorted(set(TEST.findall(DOCUMENT)))
STATES = ("met", "not applicable", "by configuration", "open")
CHAPTERS = {"security_authentication", "security_sessions", "security_access"}
ROOMS = ("accounts", "commands", "files", "gateway", "integrations", "notifications", "tests")
# How many requirements the sections of each chapter of OWASP ASVS 5.0.0 have.
ASVS = {6: (3, 12, 8, 6, 8, 4, 2, 4), 7: (3, 4, 2, 5, 3, 2), 8: (4, 4, 3, 2), 9: (3, 4)}


@cache  # most modules are asked for many times
def marks_of(module: Path) -> dict[str, set[str]]:
    """Return the names of a module's tests, each with its marks: its own, those of its class and of the module."""
    body = ast.parse(module.read_text()).body
    stated = [
        node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return _marks_in(body, stated)


def _marks_in(body: list[ast.stmt], above: list[ast.expr]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= _marks_in(node.body, [*above, *node.decorator_list])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            text = " ".join(ast.unparse(each) for each in (*above, *node.decorator_list))
            found[node.name] = set(re.findall(r"pytest\.mark\.(\w+)", text))
    return found


@pytest.mark.parametrize(("module", "name"), TESTS)
def test_every_test_that_is_named_exists_and_is_a_security_test(module, name):
    marks = marks_of(Path(settings.BASE_DIR) / module)
    assert name in marks
    assert "security" in marks[name]


@pytest.mark.parametrize("room", ROOMS)
def test_every_security_test_has_the_marker_of_its_chapter_and_the_other_way_round(room):
    for module in (Path(settings.BASE_DIR) / room).rglob("test_*.py"):
        for name, marks in marks_of(module).items():
            assert len(marks & CHAPTERS) == ("security" in marks), (module, name)


def test_nothing_is_cited_in_a_way_that_is_not_checked():
    assert DOCUMENT.count("::") == len(TEST.findall(DOCUMENT))


def test_every_requirement_is_met_with_a_test_or_says_why_not():
    wanted = [
        f"{chapter}.{section}.{number}"
        for chapter, counts in ASVS.items()
        for section, count in enumerate(counts, 1)
        for number in range(1, count + 1)
    ]
    assert [number for number, _requirement, _state in ROWS] == wanted
    for number, requirement, text in ROWS:
        state, _colon, how = text.strip().partition(": ")
        assert re.search(r"\(L[123]\) $", requirement), number
        assert state in STATES, number
        assert how, number
        assert state != "met" or TEST.search(how), number


def test_the_states_are_counted_right():
    counts = Counter(state.strip().partition(": ")[0] for _number, _requirement, state in ROWS)
    summary = ", ".join(
        f"{counts[state]} are {state}" if state == "met" else f"{counts[state]} {state}" for state in STATES
    )
    assert f"Of {len(ROWS)} requirements, {summary}." in DOCUMENT


# --- numbers --------------------------------------------------------------------------------------------------------

IN_WORDS = {
    timedelta(seconds=30): "30 s",
    timedelta(minutes=1): "1 min",
    timedelta(minutes=15): "15 min",
    timedelta(hours=1): "1 h",
}
COUNTERS = {
    "a login, from one address": failed_sign_ins.PAIR,
    "a login, from anywhere": failed_sign_ins.ACCOUNT,
    "an address, whatever the login": failed_sign_ins.ADDRESS,
    "the second factor of a user, from anywhere": failed_sign_ins.CODE,
}


def test_the_limits_are_those_of_the_code():
    section = SECTIONS["Limits on guessing"]
    for what, limit in COUNTERS.items():
        assert limit.delay(limit.free) == timedelta(seconds=1)
        longest, forgets = IN_WORDS[limit.longest], IN_WORDS[limit.forgets_one_in]
        assert f"| {what} | {limit.free} | 1 s, doubling up to {longest} | {forgets} |" in section
    for row in (
        f"| registrations, refusals of taken names included | {registration.REGISTRATIONS_PER_HOUR} | address |",
        f"| asking for a new password | {passwords.RESETS_PER_HOUR} | address |",
        f"| refusals of taken addresses, changing one's own | {profile.TAKEN_PER_HOUR} | address |",
        f"| changes of one's own address | {profile.ADDRESSES_PER_HOUR} | user |",
    ):
        assert row in section
    assert f"within the last {failed_sign_ins.KNOWN_FOR.days} days" in " ".join(section.split())


def test_the_numbers_and_words_are_those_of_the_code():
    jwt = settings.SIMPLE_JWT
    access, idle = jwt["ACCESS_TOKEN_LIFETIME"] // timedelta(minutes=1), jwt["REFRESH_TOKEN_LIFETIME"].days
    sessions, ways = SECTIONS["Sessions"], SECTIONS["Ways in"]
    assert f"| device session (API) | {idle} days | {settings.SESSION_MAX_DAYS} days |" in sessions
    assert f"| sign-in to the admin pages | – | {settings.SESSION_COOKIE_AGE // 3600} hours |" in sessions
    assert f"| access token | – | {access} minutes |" in sessions
    in_parallel = " ".join(sessions.split())
    assert f"A user has {MAX_OPEN_SESSIONS:,} open sessions at the most" in in_parallel
    assert f"a user has {api_keys.MAX_LIVE_KEYS} at the most" in in_parallel
    assert f"{api_keys.LONGEST_LIFE.days} days at the most; {api_keys.MAX_LIVE_KEYS} per user" in ways
    assert f"{tickets.LIFETIME.seconds} seconds, once" in ways
    assert f"{settings.PASSWORD_RESET_TIMEOUT // 3600} hour, once" in ways
    assert f"{settings.EMAIL_VERIFICATION_TIMEOUT // 86400} days, once" in ways
    assert f"within {DeviceSession.REUSE_GRACE.seconds} s of its owner" in SECTIONS["Attacks"]
    assert re.findall(r"`([a-z]+)`", SECTIONS["Passwords"]) == WORDS.pattern.split("|")


# --- what is listed -------------------------------------------------------------------------------------------------


def test_every_public_route_is_among_the_ways_in():
    public = {route.path.removeprefix("/api/v2/") for route in routes() if route.required == Access.PUBLIC}
    assert len(public) > 5
    assert {path for path in public if f"`POST {path}`" not in SECTIONS["Ways in"]} == set()


def test_every_field_that_can_be_written_is_among_the_fields():
    rows = {row.split(" | ")[0]: row for row in SECTIONS["Authorization"].splitlines()}
    for of, serializer in (
        ("| one's own profile", MeChangeInput),
        ("| a user", UserChangeInput),
        ("| a role", RoleChangeInput),
    ):
        assert set(serializer().fields) == set(re.findall(r"`(\w+)`", rows[of].split(" | ")[2]))
