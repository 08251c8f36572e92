from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts.api.serializers.users import RoleReferenceOutput
from accounts.models import Role
from accounts.permissions import RoleTree
from accounts.selectors import roles_with_ids
from gateway.api.serializers import StrictBooleanField, StrictCharField, StrictSerializer


class RoleOutput(serializers.Serializer[Any]):
    """A role; give the RoleTree as `context["tree"]`."""

    id = serializers.UUIDField(source="public_id")
    name = serializers.CharField()
    description = serializers.SerializerMethodField()
    parent = serializers.UUIDField(  # type: ignore[assignment]  # DRF takes fields off the class: `Field.parent` stays
        source="parent.public_id", default=None, allow_null=True
    )
    permissions = serializers.SerializerMethodField(help_text="Its own.")
    inherited_permissions = serializers.SerializerMethodField(help_text="What it has by way of its parents only.")
    built_in = serializers.BooleanField()
    requires_second_factor = serializers.BooleanField()

    def get_description(self, role: Role) -> str:
        return gettext(role.description) if role.built_in and role.description else role.description

    def get_permissions(self, role: Role) -> list[str]:
        return sorted(self._tree.own.get(role.pk, ()))

    def get_inherited_permissions(self, role: Role) -> list[str]:
        return sorted(self._tree.inherited(role))

    @property
    def _tree(self) -> RoleTree:
        tree: RoleTree = self.context["tree"]
        return tree


class PermissionOutput(serializers.Serializer[Any]):
    name = serializers.CharField(source="full_name")
    description = serializers.CharField(source="name")


class RoleIdField(serializers.UUIDField):
    """The id of a role that there is; gives the role."""

    default_error_messages = {"does_not_exist": _("There is no such role.")}  # noqa: RUF012 - DRF's way

    def to_internal_value(self, data: Any) -> Role:  # type: ignore[override]  # the role, not its id
        found = roles_with_ids([super().to_internal_value(data)])
        if not found:
            self.fail("does_not_exist")
        return found[0]


class PermissionNamesField(serializers.ListField):
    child = StrictCharField(max_length=150)


class RoleInput(StrictSerializer):
    name = StrictCharField(max_length=150)
    description = StrictCharField(max_length=200, allow_blank=True, required=False)
    parent = RoleIdField(  # type: ignore[assignment]  # the same
        allow_null=True, required=False, help_text="The id of the role from which it inherits."
    )
    permissions = PermissionNamesField(max_length=1000, required=False)
    requires_second_factor = StrictBooleanField(required=False)


class RoleChangeInput(RoleInput):
    name = StrictCharField(max_length=150, required=False)
    reason = StrictCharField(max_length=200, required=False, help_text="For the audit record.")


class PermissionCheckInput(StrictSerializer):
    permissions = PermissionNamesField(max_length=100)


class PermissionCheckOutput(serializers.Serializer[Any]):
    results = serializers.DictField(child=serializers.BooleanField())


class MyPermissionsOutput(serializers.Serializer[Any]):
    permissions = serializers.ListField(child=serializers.CharField())
    roles = RoleReferenceOutput(many=True, help_text="Inherited ones included.")
    denied_routes = serializers.DictField(
        child=serializers.CharField(), help_text="What rules close: `METHOD route` -> the permission or role asked for."
    )
    obligations = serializers.ListField(
        child=serializers.CharField(), help_text="What to do before all else: codes of the error catalogue."
    )
