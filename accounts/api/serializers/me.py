from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts.api.serializers.users import AddressField, UserSessionOutput
from accounts.models import DeviceSession, User
from gateway.api.serializers import StrictCharField, StrictSerializer


class MeOutput(serializers.ModelSerializer[User]):
    """Oneself, made of what is known of every request without the database; roles are in `me/permissions`."""

    email_verified = serializers.SerializerMethodField()
    obligations = serializers.SerializerMethodField(
        help_text="Codes of what must be done before anything else: `password_change_required`, for instance."
    )

    class Meta:
        model = User
        fields = (
            *("id", "username", "email", "email_verified", "first_name", "last_name", "language"),
            *("is_staff", "obligations", "date_joined"),
        )
        read_only_fields = fields

    def get_email_verified(self, user: User) -> bool:
        return user.email_verified_at is not None

    def get_obligations(self, user: User) -> list[str]:
        return [str(code) for code in self.context["sign_in"].obligations]


class MeChangeInput(StrictSerializer):
    first_name = StrictCharField(max_length=150, allow_blank=True, required=False)
    last_name = StrictCharField(max_length=150, allow_blank=True, required=False)
    language = serializers.ChoiceField(choices=settings.LANGUAGES, required=False)
    email = AddressField(required=False)
    current_password = StrictCharField(max_length=1024, required=False, help_text="Needed to change the address.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "email" in attrs and "current_password" not in attrs:
            sentence = _("Your password is needed to change the address.")
            raise serializers.ValidationError({"current_password": [sentence]}, "required")
        return attrs


class MySessionOutput(serializers.ModelSerializer[DeviceSession]):
    current = serializers.SerializerMethodField(help_text="Whether it is the one that asks.")

    class Meta:
        model = DeviceSession
        fields = (*UserSessionOutput.Meta.fields, "current")
        read_only_fields = fields

    def get_current(self, session: DeviceSession) -> bool:
        return bool(session.id == self.context["sign_in"].credential_id)
