from datetime import datetime
from typing import Any

from rest_framework import serializers

from accounts.api.serializers.roles import PermissionNamesField
from accounts.models import ApiKey
from gateway.api.serializers import StrictCharField, StrictSerializer


class MomentField(serializers.DateTimeField):
    """A time as text, with its offset from UTC (RFC 3339)."""

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str):
            self.fail("invalid", format="RFC 3339")
        return super().to_internal_value(data)

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            self.fail("invalid", format="RFC 3339, with the offset from UTC")
        return super().enforce_timezone(value)


class ApiKeyInput(StrictSerializer):
    name = StrictCharField(max_length=100, help_text="For people: which machine it is for.")
    scopes = PermissionNamesField(
        min_length=1, max_length=1000, help_text="Permissions that you have: the key can use no others."
    )
    expires_at = MomentField(help_text="At most 366 days from now.")


class ApiKeyOutput(serializers.ModelSerializer[ApiKey]):
    scopes = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = (
            *("id", "name", "prefix", "scopes", "created_at", "expires_at"),
            *("last_used_at", "last_used_address", "revoked_at"),
        )
        read_only_fields = fields


class NewApiKeyOutput(ApiKeyOutput):
    key = serializers.CharField(help_text="The key itself. It is shown this once.")

    class Meta(ApiKeyOutput.Meta):
        fields = (*ApiKeyOutput.Meta.fields, "key")
        read_only_fields = fields
