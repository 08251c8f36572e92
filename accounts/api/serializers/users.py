from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import DeviceSession, Role, User
from accounts.models.users import ascii_validator, tidy_address, user_name_validator
from accounts.selectors import roles_with_ids
from gateway.api.serializers import PageQuery, StrictBooleanField, StrictCharField, StrictSerializer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


class UserOutput(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ("id", "username", "email", "first_name", "last_name", "is_staff", "date_joined")
        read_only_fields = fields


class RoleReferenceOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="public_id")
    name = serializers.CharField()


class UserAccountOutput(serializers.ModelSerializer[User]):
    """A user as an administrator sees them. Without the last sign-in: it would change the ETag of its own accord."""

    roles = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = (
            *("id", "username", "email", "email_verified_at", "first_name", "last_name", "language"),
            *("is_active", "is_staff", "is_superuser", "must_change_password", "roles", "date_joined"),
        )
        read_only_fields = fields

    @extend_schema_field(RoleReferenceOutput(many=True))
    def get_roles(self, user: User) -> Any:
        roles = cast("Iterable[Role]", user.groups.all())  # as accounts.selectors.user_list fetches them
        return RoleReferenceOutput(roles, many=True).data


class UserSessionOutput(serializers.ModelSerializer[DeviceSession]):
    class Meta:
        model = DeviceSession
        fields = ("id", "device_name", "user_agent", "address", "created_at", "last_seen_at", "expires_at")
        read_only_fields = fields


class UserQuery(PageQuery):
    q = serializers.CharField(required=False, max_length=254, help_text="A part of the user name or address.")
    is_active = serializers.ChoiceField(choices=["true", "false"], required=False)
    role = serializers.UUIDField(required=False, help_text="The id of a role that they have themselves.")


class UserNameField(StrictCharField):
    """A user name in the form in which names are compared (NFKC)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=150, validators=[user_name_validator], **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return str(User.normalize_username(super().to_internal_value(data)))


class AddressField(StrictCharField):
    """An e-mail address in the form in which addresses are compared (accounts.models.users.tidy_address)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, validators=[ascii_validator, validate_email], **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return tidy_address(super().to_internal_value(data))


class RoleIdsField(serializers.ListField):
    """Ids of roles that there are; gives the roles."""

    MAX_ROLES = 100
    child = serializers.UUIDField()

    def to_internal_value(self, data: Any) -> list[Role]:
        if isinstance(data, list) and len(data) > self.MAX_ROLES:
            self.fail("max_length", max_length=self.MAX_ROLES)
        ids: list[UUID] = super().to_internal_value(data)
        roles = roles_with_ids(ids)
        unknown = sorted(str(role_id) for role_id in set(ids) - {role.public_id for role in roles})
        if unknown:
            sentence = _("There is no role with the id %(id)s.") % {"id": unknown[0]}
            raise serializers.ValidationError(sentence, "does_not_exist")
        return roles


class UserInput(StrictSerializer):
    username = UserNameField()
    email = AddressField()
    password = StrictCharField(max_length=1024)
    roles = RoleIdsField(required=False, help_text="Ids; without it, the role that new users have.")
    must_change_password = StrictBooleanField(required=False, help_text="At the first sign-in, since you know it too.")


class UserChangeInput(StrictSerializer):
    email = AddressField(required=False)
    first_name = StrictCharField(max_length=150, allow_blank=True, required=False)
    last_name = StrictCharField(max_length=150, allow_blank=True, required=False)
    language = serializers.ChoiceField(choices=settings.LANGUAGES, required=False)
    is_active = StrictBooleanField(required=False)
    must_change_password = StrictBooleanField(required=False)
    reason = StrictCharField(max_length=200, required=False, help_text="For the audit record.")


class UserRolesInput(StrictSerializer):
    roles = RoleIdsField()
    reason = StrictCharField(max_length=200, required=False, help_text="For the audit record.")
