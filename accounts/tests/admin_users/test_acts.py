"""Acts on users in the admin, on one or many: confirmed, with a reason, by whom that is allowed and nobody else."""

import pytest
from django.test import Client

from accounts.audit import Action
from accounts.models import AuditEntry, FailedSignIns, Role, User
from accounts.second_factor import has_second_factor
from accounts.services import failed_sign_ins
from accounts.services.sessions import session_start
from accounts.tests.admin_users.pages import USERS, WHY, entry, operators, page_of, said, staff
from accounts.tests.people import person_with, signed_in
from accounts.tests.second_factors import add_second_factor
from conftest import PASSWORD
from gateway.admin import confirmation

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]


def role(name):
    return Role.objects.get(name=name)


ACTS = {
    "deactivate": ("accounts.change_user", lambda user: not user.is_active),
    "activate": ("accounts.change_user", lambda user: user.is_active),
    "force_password_change": ("accounts.change_user", lambda user: user.must_change_password),
    "assign_role": ("accounts.assign_role", lambda user: role("viewer").pk in user.groups.values_list("pk", flat=True)),
    "remove_role": ("accounts.assign_role", lambda user: not user.groups.exists()),
    "end_sessions": ("accounts.end_session", lambda user: not user.device_sessions.filter(ended_at=None).exists()),
    "unlock": ("accounts.unlock_user", lambda user: not FailedSignIns.objects.filter(failures_of(user)).exists()),
}
each_act = pytest.mark.parametrize("name", ACTS)


def failures_of(user):
    return failed_sign_ins.failures_of(user)


@pytest.fixture
def two():
    """Two users to whom each of the acts would make a difference, but activation."""
    users = [person_with(name, Role.OPERATOR) for name in ("ann", "ben")]
    for user in users:
        session_start(login=user.username, password=PASSWORD)
        failed_sign_ins.failed(failed_sign_ins.check(user.username))
    return users


def chosen(name, users, **given):
    more = {"role": role("operator" if name == "remove_role" else "viewer").pk} if name.endswith("_role") else {}
    return {"action": name, "_selected_action": [str(user.pk) for user in users], **more, **given}


def undo(name, users):
    if name == "activate":
        User.objects.filter(pk__in=[user.pk for user in users]).update(is_active=False)


def done(name, users):
    return [ACTS[name][1](User.objects.get(pk=user.pk)) for user in users]


@each_act
def test_an_act_on_many_is_confirmed_with_a_reason_and_recorded(client, two, name):
    undo(name, two)
    page = client.post(USERS, chosen(name, two))
    assert [row.username for row in page.context["rows"]] == ["ann", "ben"]
    page = client.post(USERS, chosen(name, two, confirmed="yes", reason=" "))
    assert "reason" in page.context["form"].errors
    assert done(name, two) == [False, False]
    answer = client.post(USERS, chosen(name, two, confirmed="yes", reason=WHY))
    assert answer.status_code == 302
    assert said(answer) == "Done for 2."
    assert done(name, two) == [True, True]
    assert AuditEntry.objects.filter(reason=WHY).count() >= len(two)


@each_act
def test_an_act_needs_its_permission(two, alice, name):
    undo(name, two)
    others = {permission for permission, _done in ACTS.values()} - {ACTS[name][0]}
    sure = chosen(name, two, confirmed="yes", reason=WHY)
    for client in (Client(), signed_in(alice), staff(), staff(*others, name="other")):
        client.post(USERS, sure)
        assert done(name, two) == [False, False]


@each_act
def test_an_act_is_done_by_who_has_its_permission(two, name):
    undo(name, two)
    clerk = staff(ACTS[name][0], *two[0].get_all_permissions(), *operators())
    clerk.post(USERS, chosen(name, two, confirmed="yes", reason=WHY))
    assert done(name, two) == [True, True]


@each_act
def test_an_act_on_somebody_who_may_do_more_is_refused_and_the_others_go_on(admin, two, name):
    undo(name, two)
    clerk = staff(ACTS[name][0], *operators())
    answer = clerk.post(USERS, chosen(name, [admin, *two], confirmed="yes", reason=WHY))
    assert done(name, two) == [True, True]
    if name != "unlock":  # which takes nothing from anybody
        assert "admin: You can change only users who may do no more than you." in said(answer)
        assert not AuditEntry.objects.filter(reason=WHY, target_id=str(admin.pk)).exists()


def test_a_role_that_one_does_not_have_cannot_be_given(two):
    clerk = staff("accounts.assign_role", *operators())
    sure = chosen("assign_role", two, confirmed="yes", reason=WHY) | {"role": role("admin").pk}
    assert "You can give and take only what you have yourself." in said(clerk.post(USERS, sure))
    assert "role" in clerk.post(USERS, sure | {"role": "x"}).context["form"].errors


def test_too_many_at_once_are_refused(client, two, monkeypatch):
    monkeypatch.setattr(confirmation, "MOST", 1)
    answer = client.post(USERS, chosen("deactivate", two, confirmed="yes", reason=WHY))
    assert "at most 1" in said(answer)
    assert done("deactivate", two) == [False, False]


@pytest.mark.parametrize("ids", [["x"], ["00000000-0000-7000-8000-000000000000"], ["\0"], []], ids=str)
def test_a_choice_of_nobody_does_nothing(client, ids):
    data = {"action": "deactivate", "_selected_action": ids, "confirmed": "yes", "reason": WHY}
    assert client.post(USERS, data).status_code in (200, 302)
    assert not AuditEntry.objects.filter(reason=WHY).exists()


@pytest.mark.parametrize(("path", "name"), [("end-sessions", "end_sessions"), ("unlock", "unlock")])
def test_an_act_on_one_from_their_page(client, two, alice, path, name):
    url, sure = f"{USERS}{two[0].pk}/{path}/", {"confirmed": "yes", "reason": WHY}
    for other in (Client(), signed_in(alice), staff()):
        other.post(url, sure)
    assert staff(name="other").post(url, sure).status_code == 403
    assert done(name, two) == [False, False]
    assert client.get(url).status_code == 200
    assert client.post(url, sure)["Location"] == page_of(two[0])
    assert done(name, two) == [True, False]


def test_a_lost_second_factor_is_reset(client, alice, admin):
    add_second_factor(alice)
    url, sure = f"{USERS}{alice.pk}/reset-second-factor/", {"confirmed": "yes", "reason": WHY}
    assert staff().post(url, sure).status_code == 403
    assert has_second_factor(alice)
    client.post(url, sure)
    assert not has_second_factor(alice)
    assert entry(Action.SECOND_FACTOR_REMOVED).reason == WHY
    assert "There is nothing here" in said(client.post(url, sure))
