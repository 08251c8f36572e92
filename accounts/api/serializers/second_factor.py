from typing import Any

from rest_framework import serializers

from accounts.second_factor import State
from gateway.api.serializers import StrictCharField, StrictSerializer


class SecondFactorOutput(serializers.Serializer[Any]):
    state = serializers.ChoiceField(
        choices=list(State), help_text="`pending` is a secret that was given out and is not confirmed yet."
    )
    recovery_codes_left = serializers.IntegerField()


class PasswordInput(StrictSerializer):
    password = StrictCharField(max_length=1024)


class EnrolmentOutput(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="To be typed into an authenticator app.")
    uri = serializers.CharField(help_text="The same for the app to open: `otpauth://totp/...`")
    qr = serializers.CharField(help_text="A picture of `uri` for the app to scan: `data:image/svg+xml,...`")


class CodeInput(StrictSerializer):
    code = StrictCharField(max_length=100)


class ProofInput(StrictSerializer):
    password = StrictCharField(max_length=1024)
    code = StrictCharField(max_length=100, help_text="Of the app, or a recovery code.")


class RecoveryCodesOutput(serializers.Serializer[Any]):
    recovery_codes = serializers.ListField(child=serializers.CharField(), help_text="Each can be used once.")
