from django.conf import settings
from rest_framework import serializers

from accounts.api.serializers.users import AddressField, UserNameField
from gateway.api.serializers import StrictCharField, StrictSerializer


class RegisterInput(StrictSerializer):
    username = UserNameField()
    email = AddressField()
    password = StrictCharField(max_length=1024)
    language = serializers.ChoiceField(
        choices=settings.LANGUAGES, required=False, help_text="Of mails. Without it, that of `Accept-Language`."
    )


class VerifyInput(StrictSerializer):
    token = StrictCharField(max_length=1024)
