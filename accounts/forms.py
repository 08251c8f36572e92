from typing import Any

from django import forms
from django.contrib.auth.models import AbstractBaseUser
from django.utils.translation import gettext_lazy as _

from accounts import audit
from accounts.audit import Action
from accounts.models import User
from accounts.services.sessions import credentials_check
from gateway.admin.theme import AuthenticationForm, TextInput
from gateway.api.errors import ApiError, ErrorCode


class AdminLoginForm(AuthenticationForm):
    """The admin's door: by the same check as the API's, with its limits and its second factor."""

    code = forms.CharField(
        label=_("Code"),
        help_text=_("If you have a second factor: the code of your app, or a recovery code."),
        required=False,
        max_length=100,
        widget=TextInput(attrs={"autocomplete": "one-time-code"}),
    )

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if given.get("username") and given.get("password") and "code" in given:
            try:
                user = credentials_check(login=given["username"], password=given["password"], code=given["code"])
            except ApiError as error:
                raise self._refusal(error) from None
            self.confirm_login_allowed(user)
            self.user_cache = user
        return given

    def confirm_login_allowed(self, user: AbstractBaseUser) -> None:
        """Say the same to who may not use these pages as to who does not know the password."""
        if not isinstance(user, User) or not (user.is_staff or user.has_perm("accounts.use_admin_pages")):
            target = user if isinstance(user, User) else None
            audit.record(Action.SIGN_IN_FAILED, actor=target, target=target, reason=ErrorCode.PERMISSION_DENIED)
            raise self.get_invalid_login_error()

    def _refusal(self, error: ApiError) -> forms.ValidationError:
        if error.error_code == ErrorCode.INVALID_CREDENTIALS:
            return self.get_invalid_login_error()
        return forms.ValidationError(str(error.detail), code=error.error_code)
