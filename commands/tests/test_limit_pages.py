"""Limits of commands in flight, as administrators set them."""

import pytest

from accounts.models import AuditEntry, Role
from accounts.tests.people import signed_in, staff
from commands.limits import limit_of
from commands.models import CommandLimit

pytestmark = pytest.mark.django_db

PAGES = "/admin/commands/commandlimit/"
SURE = {"confirmed": "yes", "reason": "no longer needed"}


def test_limits_are_made_changed_and_deleted_and_the_record_has_it(admin, alice):
    client = signed_in(admin)
    client.post(f"{PAGES}add/", {"username": "alice", "role": "", "in_flight": 3, "reason": "sends too many"})
    limit = CommandLimit.objects.get()
    assert (limit.user, limit.in_flight, limit_of(alice.pk)) == (alice, 3, 3)
    client.post(f"{PAGES}{limit.pk}/change/", {"username": "alice", "role": "", "in_flight": 4, "reason": "asked"})
    assert limit_of(alice.pk) == 4
    assert "alice" in client.get(PAGES).content.decode()
    client.post(f"{PAGES}{limit.pk}/delete/", SURE)
    assert not CommandLimit.objects.exists()
    entries = AuditEntry.objects.filter(action__startswith="command_limit").order_by("at")
    assert [(entry.action, entry.reason, entry.changes.get("in_flight")) for entry in entries] == [
        ("command_limit_created", "sends too many", [None, 3]),
        ("command_limit_changed", "asked", [3, 4]),
        ("command_limit_deleted", "no longer needed", [4, None]),
    ]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"username": "nobody"}, "There is no such user."),
        ({"in_flight": "0"}, "greater than or equal to 1"),
        ({"in_flight": "many"}, "Enter a whole number."),
        ({"username": "alice", "role": "viewer"}, "for a user or for a role, not for both"),
        ({}, "There is a limit for everybody already."),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(admin, alice, values, error):
    CommandLimit.objects.create(in_flight=5)
    role = Role.objects.get(name=values["role"]).pk if "role" in values else ""
    answer = signed_in(admin).post(f"{PAGES}add/", {"username": "", "in_flight": 1, **values, "role": role})
    assert error in answer.content.decode()
    assert CommandLimit.objects.count() == 1


def test_only_who_may_sets_limits(alice):
    limit = CommandLimit.objects.create(in_flight=5)
    onlooker = staff("commands.view_commandlimit")
    for client in (onlooker, signed_in(alice)):
        client.post(f"{PAGES}add/", {"username": "alice", "role": "", "in_flight": 9})
        client.post(f"{PAGES}{limit.pk}/change/", {"username": "", "role": "", "in_flight": 9})
        client.post(f"{PAGES}{limit.pk}/delete/", SURE)
    assert onlooker.get(f"{PAGES}{limit.pk}/change/").status_code == 200
    assert CommandLimit.objects.get().in_flight == 5
