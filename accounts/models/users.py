import re
from typing import Any, ClassVar
from unicodedata import normalize

from django.conf import settings
from django.contrib.auth.models import AbstractUser, UserManager
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models import Expression, Value
from django.db.models.functions import Lower, Replace
from django.utils.translation import gettext_lazy as _

from accounts.models.roles import Role
from gateway.ids import new_id

# Latin letters up to U+017F, and nothing that only looks like them: names are for telling people apart (UTS #39).
USER_NAME = re.compile(r"[0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017f.+_-]+")
user_name_validator = RegexValidator(
    re.compile(rf"\A{USER_NAME.pattern}\Z"), _("Use Latin letters, digits and . + - _ only."), "invalid_username"
)
# Django's pattern ignores case, and so lets letters through that become others when their case is changed: `ı`, `K`.
ascii_validator = RegexValidator(r"\A[\x00-\x7f]*\Z", _("Only ASCII characters can stand here."))


def tidy_address(address: str) -> str:
    """Return an e-mail address in the one form in which they are compared: full-width letters are plain ones (NFKC)."""
    name, at, domain = normalize("NFKC", address).rpartition("@")
    return name + at + domain.lower()


def without_look_alikes(name: Expression | str) -> Replace:
    """Return a name as people see it: of the letters that names may have, `ı` is taken for `i` by most."""
    return Replace(Lower(name), Value("ı"), Value("i"))


class GatewayUserManager(UserManager["User"]):
    """Gives a new user the role that new users have."""

    def _create_user(self, username: str, email: str | None, password: str | None, **fields: Any) -> "User":
        user: User = self._create_user_object(username, email, password, **fields)  # type: ignore[attr-defined]  # not in the stubs
        with transaction.atomic(using=self._db):  # begins only when the password is hashed, which is slow on purpose
            user.save(using=self._db)
            user.groups.add(Role.objects.get(name=Role.ADMIN if user.is_superuser else Role.OPERATOR))
        return user


class User(AbstractUser):
    """A person or a machine. Signs in by user name or e-mail address; letter case does not tell them apart."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    username = models.CharField(
        _("user name"), max_length=150, unique=True, validators=[user_name_validator],
        error_messages={"unique": _("This user name is taken.")},
    )  # fmt: skip
    email = models.EmailField(_("email address"), validators=[ascii_validator])
    email_verified_at = models.DateTimeField(_("email verified"), null=True, blank=True, editable=False)
    language = models.CharField(_("language"), max_length=8, choices=settings.LANGUAGES, default="en")
    must_change_password = models.BooleanField(
        _("must change the password"), default=False, help_text=_("Until then, nothing else can be done.")
    )

    objects: ClassVar[GatewayUserManager] = GatewayUserManager()

    class Meta(AbstractUser.Meta):
        permissions: ClassVar = [
            ("assign_role", "Can give roles to users and take them away"),
            ("end_session", "Can end the sessions of users"),
            ("unlock_user", "Can unlock users"),
            ("use_admin_pages", "Can use the admin pages"),
            ("read_metrics", "Can read the metrics of the gateway"),
        ]
        indexes: ClassVar = [models.Index(fields=["id"], name="user_superuser", condition=models.Q(is_superuser=True))]
        constraints: ClassVar = [
            models.UniqueConstraint(
                Lower("username"), name="user_username_unique", violation_error_message=_("This user name is taken.")
            ),
            models.UniqueConstraint(
                without_look_alikes("username"),
                name="user_username_no_look_alike",
                violation_error_message=_("This user name is taken."),
            ),
            models.UniqueConstraint(
                Lower("email"), name="user_email_unique", violation_error_message=_("This address is taken.")
            ),
            # Else somebody could take another person's address as a user name and sign in "as" it.
            models.CheckConstraint(
                condition=~models.Q(username__contains="@"),
                name="user_username_is_no_email",
                violation_error_message=_("A user name must not contain @."),
            ),
        ]
