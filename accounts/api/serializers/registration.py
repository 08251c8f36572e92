from typing import Any
from unicodedata import normalize

from django.conf import settings
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts.api.serializers.users import UserNameField
from gateway.api.serializers import StrictCharField, StrictSerializer


def _validate_ascii(address: str) -> None:
    if not address.isascii():
        raise serializers.ValidationError(_("Only ASCII characters can stand here."), "invalid")


class AddressField(StrictCharField):
    """An e-mail address in ASCII, once full-width letters and the like were made plain (NFKC).

    Django's pattern alone lets some letters through that become others when their case is changed, such as `ı`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, validators=[_validate_ascii, validate_email], **kwargs)

    def to_internal_value(self, data: Any) -> str:
        name, at, domain = normalize("NFKC", super().to_internal_value(data)).rpartition("@")
        return name + at + domain.lower()


class RegisterInput(StrictSerializer):
    username = UserNameField()
    email = AddressField()
    password = StrictCharField(max_length=1024)
    language = serializers.ChoiceField(
        choices=settings.LANGUAGES, required=False, help_text="Of mails. Without it, that of `Accept-Language`."
    )


class VerifyInput(StrictSerializer):
    token = StrictCharField(max_length=1024)
