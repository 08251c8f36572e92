"""Users from before there were roles get what new users get, so that nobody is locked out by the update.

`migrate` ends with accounts.built_in_roles, which gives the roles made here their parents and permissions.
"""

from django.db import migrations


def give_roles(apps, schema_editor):
    User, Role = apps.get_model("accounts", "User"), apps.get_model("accounts", "Role")
    users = User.objects.filter(groups=None)
    for name, members in (("admin", users.filter(is_superuser=True)), ("operator", users.filter(is_superuser=False))):
        members = list(members)
        if members:
            role, _created = Role.objects.get_or_create(name=name, defaults={"built_in": True})
            role.user_set.add(*members)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_audit_is_append_only")]
    operations = [migrations.RunPython(give_roles, migrations.RunPython.noop, elidable=True)]
