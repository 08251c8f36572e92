"""An installation from before there were roles can be updated."""

from importlib import import_module

import pytest
from django.apps import apps

from accounts.models import Role

pytestmark = pytest.mark.django_db

give_roles = import_module("accounts.migrations.0004_roles_for_existing_users").give_roles


def test_users_from_before_get_what_new_users_get(alice, admin, bob):
    for user in (alice, admin):
        user.groups.clear()
    bob.groups.set([Role.objects.get(name=Role.VIEWER)])
    give_roles(apps, None)
    held = [sorted(user.groups.values_list("name", flat=True)) for user in (alice, admin, bob)]
    assert held == [["operator"], ["admin"], ["viewer"]]
