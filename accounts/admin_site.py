"""The door of the admin pages: who gets in, and what they must do first."""

from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.auth.views import PasswordChangeView
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.admin_second_factor import second_factor_page
from accounts.forms import AdminLoginForm
from accounts.models import AuditEntry, DeviceSession, User
from accounts.models.sessions import SessionEnd
from accounts.services.passwords import password_change
from accounts.services.registration import email_verification_resend
from accounts.services.sessions import session_end, session_open
from accounts.sign_in import SignIn, sign_in_by_credential
from gateway.admin.overview import figures_for
from gateway.admin.refusals import REFUSALS, add_refusal
from gateway.admin.theme import AdminSite, OwnPasswordChangeForm
from gateway.api.errors import ApiError, ErrorCode

LATEST = 10  # acts that the first page shows
USE_ADMIN_PAGES = "accounts.use_admin_pages"
_SESSION_KEY = "device_session"
_FOREVER = datetime.max.replace(tzinfo=UTC)
# What must be done before anything else, and the page where it is done.
_PAGES = {
    ErrorCode.PASSWORD_CHANGE_REQUIRED: "password_change",
    ErrorCode.EMAIL_NOT_VERIFIED: "email_verification",
    ErrorCode.SECOND_FACTOR_SETUP_REQUIRED: "second_factor",
}
_OPEN_TO_OBLIGED = {*_PAGES.values(), "logout", "jsi18n"}


class GatewayAdminSite(AdminSite):
    """Lets in who is staff or has the permission, as long as their session lives."""

    site_title = site_header = "ALT_LAS gateway"
    site_url = "/api-docs"
    index_title = gettext_lazy("Overview")
    index_template = "gateway_admin/index.html"
    login_form = AdminLoginForm
    login_template = "gateway_admin/login.html"

    def has_permission(self, request: HttpRequest) -> bool:
        sign_in = sign_in_of(request)
        return sign_in is not None and (sign_in.user.is_staff or sign_in.allows(USE_ADMIN_PAGES))

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:  # noqa: FBT001, FBT002 - Django's
        """Send whoever must do something first to the page where it is done."""
        guarded = super().admin_view(view, cacheable)

        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            sign_in = sign_in_of(request)
            if sign_in is None and request.user.is_authenticated:
                logout(request)  # the session was ended elsewhere
            name = request.resolver_match.url_name if request.resolver_match else None
            if sign_in and sign_in.obligations and name not in _OPEN_TO_OBLIGED and self.has_permission(request):
                return redirect(f"admin:{_PAGES[sign_in.obligations[0]]}")
            return guarded(request, *args, **kwargs)

        return update_wrapper(inner, guarded)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Ask again if the password was changed while somebody signed in with the old one."""
        before = request.session.get(_SESSION_KEY)
        try:
            answer = super().login(request, extra_context)
        except ApiError as error:
            logout(request)
            messages.error(request, str(error.detail))
            return redirect(request.get_full_path())
        if before is not None and request.session.get(_SESSION_KEY) != before:
            _end(before)  # somebody was signed in here already: the same person, or another
        return answer

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        may_see = user_of(request).has_perm("accounts.view_auditentry")
        recent = AuditEntry.objects.order_by("-pk")[:LATEST] if may_see else []
        return super().index(request, {"figures": figures_for(request), "recent": recent, **(extra_context or {})})

    def extra_urls(self) -> list[URLPattern]:
        return [
            path("email-verification/", self.admin_view(self.email_verification), name="email_verification"),
            path("second-factor/", self.admin_view(self.second_factor), name="second_factor"),
        ]

    def second_factor(self, request: HttpRequest) -> HttpResponse:
        return second_factor_page(request, user_of(request), self.each_context(request))

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Find a list by its name. There is never a second page, and a bad number of one must not be an error."""
        query = request.GET.copy()
        query.pop("page", None)
        request.GET = query  # type: ignore[assignment]  # nobody changes it any more
        theme: Any = super()
        return cast("HttpResponse", theme.search(request, extra_context))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = {**self.each_context(request), **(extra_context or {})}
        request.current_app = self.name
        context["title"] = _("Change password")
        context["is_obliged"] = user_of(request).must_change_password
        view = PasswordChange.as_view(extra_context=context, success_url=reverse("admin:password_change_done"))
        return view(request)

    def email_verification(self, request: HttpRequest) -> HttpResponse:
        """Say that the address must be verified first, and mail another token."""
        if request.method == "POST":
            email_verification_resend(user=user_of(request))
            messages.success(request, _("A mail is on its way, unless several went out already."))
            return redirect("admin:email_verification")
        if user_of(request).email_verified_at:
            return redirect("admin:index")
        context = {**self.each_context(request), "title": _("Verify your e-mail address")}
        return TemplateResponse(request, "gateway_admin/email_verification.html", context)


class OwnPasswordForm(OwnPasswordChangeForm):
    def clean_old_password(self) -> str:
        """Leave the check to the service, which counts failures."""
        return str(self.cleaned_data["old_password"])


class PasswordChange(PasswordChangeView):
    form_class = OwnPasswordForm
    template_name = "gateway_admin/password_change.html"

    def form_valid(self, form: Any) -> HttpResponse:
        user, given = user_of(self.request), form.cleaned_data
        sign_in = sign_in_of(self.request)
        keep = sign_in.credential_id if sign_in else None
        try:
            password_change(user=user, current=given["old_password"], new=given["new_password1"], keep_session=keep)
        except REFUSALS as error:
            add_refusal(form, error, fields={"current": "old_password", "new": "new_password1"})
            return self.form_invalid(form)
        update_session_auth_hash(self.request, user)
        return HttpResponseRedirect(self.get_success_url())


def user_of(request: HttpRequest) -> User:
    """Return who is at work in the admin pages."""
    return cast("User", request.user)


def sign_in_of(request: HttpRequest) -> SignIn | None:
    """Return the sign-in behind a request, None if there is none or it has ended."""
    if not hasattr(request, "_sign_in"):
        request._sign_in = _sign_in_of(request)  # type: ignore[attr-defined]  # noqa: SLF001 - asked for several times
    return cast("SignIn | None", request._sign_in)  # type: ignore[attr-defined]  # noqa: SLF001 - the same


def _sign_in_of(request: HttpRequest) -> SignIn | None:
    session_id = request.session.get(_SESSION_KEY)
    if session_id is None or not request.user.is_authenticated:
        return None
    try:
        sign_in = sign_in_by_credential(UUID(session_id), _FOREVER)
    except ApiError:
        return None
    return sign_in if sign_in.user.pk == request.user.pk else None


@receiver(user_logged_in)
def _signed_in(request: HttpRequest, user: User, **_kwargs: Any) -> None:
    """Make the sign-in one of the user's device sessions: it is listed there, and ends with it.

    Whoever signs in again in the same browser gets another cookie (ASVS 7.2.4).
    """
    request.session.cycle_key()
    lifetime = timedelta(seconds=settings.SESSION_COOKIE_AGE)
    session = session_open(user=user, device_name=_("admin pages"), lifetime=lifetime)
    request.session[_SESSION_KEY] = str(session.id)
    request.__dict__.pop("_sign_in", None)  # there was none before


@receiver(user_logged_out)
def _signed_out(request: HttpRequest, **_kwargs: Any) -> None:
    session_id = request.session.get(_SESSION_KEY)
    if session_id is not None:
        _end(session_id)


def _end(session_id: str) -> None:
    session = DeviceSession.objects.select_related("user").filter(id=session_id).first()
    if session is not None:
        session_end(session_id=session.id, actor=session.user, reason=SessionEnd.LOGOUT)
