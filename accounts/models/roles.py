from typing import ClassVar

from django.contrib.auth.models import Group
from django.db import models
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id


class Role(Group):
    """A Django group that may inherit the permissions of another role.

    The built-in ones get their permissions from the code at every `migrate` (accounts.built_in_roles) and are not
    changed otherwise; other roles can inherit from them.
    """

    objects: ClassVar[models.Manager["Role"]] = models.Manager()  # type: ignore[assignment]  # Group's is of groups

    VIEWER, OPERATOR, SERVICE, ADMIN = "viewer", "operator", "service", "admin"

    public_id = models.UUIDField(_("id"), unique=True, default=new_id, editable=False)
    description = models.CharField(_("description"), max_length=200, blank=True)
    parent = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="children",
        verbose_name=_("inherits from"),
    )
    built_in = models.BooleanField(_("built-in"), default=False, editable=False)
    requires_second_factor = models.BooleanField(
        _("requires a second factor"),
        default=False,
        help_text=_("Who has this role can do nothing but set up a second factor until there is one."),
    )

    class Meta:
        verbose_name = _("role")
        verbose_name_plural = _("roles")


class RouteRule(models.Model):
    """Tightens one route at run time: besides what the code asks for, this permission or role is needed."""

    method = models.CharField(_("method"), max_length=6)
    route = models.CharField(_("route"), max_length=100, help_text=_("As `manage.py show_permissions` names it."))
    permission = models.CharField(_("permission"), max_length=150, blank=True, help_text="app_label.codename")
    role = models.ForeignKey(Role, on_delete=models.CASCADE, null=True, blank=True, verbose_name=_("role"))
    reason = models.CharField(_("reason"), max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("route rule")
        verbose_name_plural = _("route rules")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["method", "route"],
                name="route_rule_unique",
                violation_error_message=_("There is a rule for this route already."),
            ),
            models.CheckConstraint(
                condition=models.Q(permission="", role__isnull=False)
                | (~models.Q(permission="") & models.Q(role=None)),
                name="route_rule_asks_for_one_thing",
                violation_error_message=_("Name either a permission or a role."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.route}"
