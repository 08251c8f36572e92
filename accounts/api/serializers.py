from typing import Any

from rest_framework import serializers

from accounts.models import User
from gateway.api.serializers import StrictCharField, StrictSerializer


class LoginInput(StrictSerializer):
    login = StrictCharField(max_length=254, help_text="User name or e-mail address.")
    password = StrictCharField(max_length=1024)
    device_name = StrictCharField(max_length=100, required=False)


class RefreshInput(StrictSerializer):
    refresh = StrictCharField(max_length=4096)


class UserOutput(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ("id", "username", "email", "first_name", "last_name", "is_staff", "date_joined")
        read_only_fields = fields


class TokenPairOutput(serializers.Serializer[Any]):
    access = serializers.CharField()
    access_expires_at = serializers.DateTimeField()
    refresh = serializers.CharField()
    refresh_expires_at = serializers.DateTimeField()


class LoginOutput(TokenPairOutput):
    session_id = serializers.UUIDField()
    user = UserOutput()
