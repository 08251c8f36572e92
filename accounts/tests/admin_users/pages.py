"""The pages of users in the admin: who opens them, what is sent there, and what is said."""

from django.contrib.messages import get_messages

from accounts.models import AuditEntry, Role
from accounts.tests import people
from accounts.tests.people import person_with

USERS, ADD = "/admin/accounts/user/", "/admin/accounts/user/add/"
WHY = "as the ticket says"
NEW = {
    "username": "carol",
    "email": "carol@example.com",
    "password1": "a long new password",
    "password2": "a long new password",
}


def staff(*permissions, name="clerk"):
    """A client of somebody who may use the admin, see users, and do just this."""
    return people.staff("accounts.view_user", *permissions, name=name)


def page_of(user):
    return f"{USERS}{user.pk}/change/"


def values_of(client, user):
    """What a browser would send if nothing was changed on a user's page."""
    form = client.get(page_of(user)).context["adminform"].form
    return {
        name: [getattr(each, "pk", each) for each in value] if isinstance(value, list) else value
        for name, value in form.initial.items()
        if value not in (None, False, [])
    }


def said(answer):
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def errors(answer):
    return answer.context["adminform"].form.errors


def entry(action):
    return AuditEntry.objects.get(action=action)


def operators():
    return sorted(person_with("someone", Role.OPERATOR).get_all_permissions())
