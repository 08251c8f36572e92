from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from accounts.admin.user_acts import UserActs
from accounts.admin.user_forms import NewUserForm, PasswordForm, PermissionsField, UserForm
from accounts.admin.user_inlines import ApiKeysInline, SessionsInline
from accounts.admin.user_lists import LastSignInFilter, RoleFilter, VerifiedFilter, with_open_sessions
from accounts.admin_site import user_of
from accounts.models import FailedSignIns, User
from accounts.permissions import user_permissions, user_roles
from accounts.second_factor import has_second_factor
from accounts.services.direct_permissions import user_permissions_set
from accounts.services.failed_sign_ins import failures_of
from accounts.services.passwords import password_set
from accounts.services.users import CHANGEABLE, user_change, user_create, user_delete, user_prepare, user_roles_set
from gateway.admin.model_admin import EMPTY, page_url, permission_list, shown_once
from gateway.admin.refusals import REFUSALS, add_refusal
from gateway.admin.theme import BooleanRadioFilter

FOR_SUPERUSERS = ("is_staff", "is_superuser", "user_permissions")


@admin.register(User)
class UserAdmin(UserActs, DjangoUserAdmin[User]):
    form = UserForm
    add_form = NewUserForm
    add_form_template = None
    change_password_form = PasswordForm
    list_display = ("username", "email", "is_active", "roles", "is_verified", "open_sessions", "last_login")
    list_filter = (
        ("is_active", BooleanRadioFilter),
        ("is_staff", BooleanRadioFilter),
        RoleFilter,
        VerifiedFilter,
        LastSignInFilter,
    )
    search_fields = ("username", "email", "first_name", "last_name")
    search_help_text = gettext_lazy("User name, name, e-mail address or id")
    ordering = ("username",)
    filter_horizontal = ()
    inlines = (SessionsInline, ApiKeysInline)
    change_form_outer_before_template = "gateway_admin/user_links.html"
    delete_warning = gettext_lazy("Their commands, files, sessions and API keys are deleted too.")
    readonly_fields = (
        "password_link",
        "id",
        "email_verified_at",
        "second_factor",
        "blocked_until",
        "effective_permissions",
        "last_login",
        "date_joined",
    )
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("username", "email", "email_verified_at", "first_name", "last_name", "language")}),
        (
            gettext_lazy("Sign-in"),
            {"fields": ("is_active", "password_link", "must_change_password", "second_factor", "blocked_until")},
        ),
        (gettext_lazy("Access"), {"fields": ("roles", "effective_permissions", *FOR_SUPERUSERS)}),
        (gettext_lazy("Times"), {"fields": ("last_login", "date_joined", "id")}),
        (gettext_lazy("This change"), {"fields": ("reason",)}),
    )
    add_fieldsets: Any = (
        (None, {"fields": ("username", "email", "password1", "password2", "must_change_password", "roles")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return with_open_sessions(super().get_queryset(request)).prefetch_related("groups")

    @admin.display(description=gettext_lazy("roles"))
    def roles(self, user: User) -> str:
        return ", ".join(sorted(group.name for group in user.groups.all())) or EMPTY

    @admin.display(description=gettext_lazy("verified"), boolean=True)
    def is_verified(self, user: User) -> bool:
        return user.email_verified_at is not None

    @admin.display(description=gettext_lazy("open sessions"))
    def open_sessions(self, user: Any) -> int:
        return int(user.open_sessions)

    @admin.display(description=gettext_lazy("second factor"), boolean=True)
    @shown_once
    def second_factor(self, user: User) -> bool:
        return has_second_factor(user)

    @admin.display(description=gettext_lazy("blocked until"))
    @shown_once
    def blocked_until(self, user: User) -> Any:
        blocks = FailedSignIns.objects.filter(failures_of(user), blocked_until__gt=timezone.now())
        return blocks.order_by("-blocked_until").values_list("blocked_until", flat=True).first() or EMPTY

    @admin.display(description=gettext_lazy("may do, all in all"))
    @shown_once
    def effective_permissions(self, user: User) -> SafeString | str:
        return permission_list(user_permissions(user, user_roles(user)))

    @admin.display(description=gettext_lazy("password"))
    def password_link(self, user: User) -> SafeString:
        url = reverse("admin:auth_user_password_change", args=(user.pk,))
        return format_html('<a href="{}" class="text-link">{}</a>', url, _("Set another password"))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        if not user_of(request).is_superuser:
            fields += FOR_SUPERUSERS
        return fields if self.has_assign_role_permission(request) else (*fields, "roles")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        fieldsets: Any = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        shown = [(name, dict(options)) for name, options in fieldsets[:-1]]
        shown[1][1]["fields"] = tuple(field for field in shown[1][1]["fields"] if field != "password_link")
        return shown

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        return super().get_inlines(request, obj) if obj else ()

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user_permissions":
            kwargs["form_class"] = PermissionsField
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save(self, request: HttpRequest, obj: User, form: Any, *, change: bool) -> User:
        actor, given = user_of(request), form.cleaned_data
        may_assign = self.has_assign_role_permission(request)
        if not change:
            user = user_prepare(
                username=given["username"],
                email=given["email"],
                password=given["password1"],
                must_change_password=given["must_change_password"],
            )
            return user_create(actor=actor, user=user, roles=given["roles"] if may_assign else None)
        user, reason = User.objects.get(pk=obj.pk), given["reason"]
        changes = {name: given[name] for name in form.changed_data if name in CHANGEABLE}
        user = user_change(actor=actor, user=user, changes=changes, reason=reason)
        if may_assign and "roles" in form.changed_data:
            user = user_roles_set(actor=actor, user=user, roles=given["roles"], reason=reason)
        if "user_permissions" in form.changed_data:
            user_permissions_set(actor=actor, user=user, permissions=given["user_permissions"], reason=reason)
        return user

    def delete(self, request: HttpRequest, obj: User, reason: str) -> None:
        user_delete(actor=user_of(request), user=obj, reason=reason)

    @method_decorator([sensitive_post_parameters(), csrf_protect])
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002 - Django's name
        """Whoever knows only the old password is out at once."""
        user = self.get_object(request, id)
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        if user is None:
            raise Http404
        if user.pk == user_of(request).pk:
            return redirect("admin:password_change")  # which asks for the present one
        form = PasswordForm(user, request.POST if request.method == "POST" else None)
        if form.is_valid() and self._set_password(request, user, form):
            messages.success(request, _("The password was changed, and the sessions have ended."))
            return redirect(page_url(user))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Change password: %s") % user.username,
            "form": form,
            "original": user,
            "opts": self.opts,
        }
        return TemplateResponse(request, "gateway_admin/user_password.html", context)

    def _set_password(self, request: HttpRequest, user: User, form: Any) -> bool:
        given = form.cleaned_data
        try:
            password_set(
                actor=user_of(request),
                user=user,
                password=given["password1"],
                must_change=given["must_change_password"],
                reason=given["reason"],
            )
        except REFUSALS as error:
            add_refusal(form, error)
            return False
        return True
