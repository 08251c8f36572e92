from typing import Any

from rest_framework import serializers

from accounts.api.serializers.users import UserOutput
from gateway.api.serializers import StrictCharField, StrictSerializer


class LoginInput(StrictSerializer):
    login = StrictCharField(max_length=254, help_text="User name or e-mail address.")
    password = StrictCharField(max_length=1024)
    code = StrictCharField(
        max_length=100, required=False, help_text="Of the second factor, or a recovery code, if the user has one."
    )
    device_name = StrictCharField(max_length=100, required=False)


class RefreshInput(StrictSerializer):
    refresh = StrictCharField(max_length=4096)


class TokenPairOutput(serializers.Serializer[Any]):
    access = serializers.CharField()
    access_expires_at = serializers.DateTimeField()
    refresh = serializers.CharField()
    refresh_expires_at = serializers.DateTimeField()


class LoginOutput(TokenPairOutput):
    session_id = serializers.UUIDField()
    user = UserOutput()
