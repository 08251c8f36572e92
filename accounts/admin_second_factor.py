"""The page of the admin where one sets up a second factor, and looks after it."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters

from accounts.models import User
from accounts.second_factor import State, recovery_codes_left, state_of
from accounts.services.second_factor import (
    recovery_codes_make,
    second_factor_begin,
    second_factor_confirm,
    second_factor_remove,
)
from gateway.admin.refusals import REFUSALS, add_refusal
from gateway.admin.theme import PasswordInput, TextInput


class PasswordProof(forms.Form):
    password = forms.CharField(
        label=gettext_lazy("Your password"),
        max_length=1024,
        strip=False,
        widget=PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class CodeProof(forms.Form):
    code = forms.CharField(
        label=gettext_lazy("Code"), max_length=100, widget=TextInput(attrs={"autocomplete": "one-time-code"})
    )


class BothProofs(PasswordProof, CodeProof):
    pass


@sensitive_post_parameters()
def second_factor_page(request: HttpRequest, user: User, context: dict[str, Any]) -> HttpResponse:
    """Lead through the set-up: the password, the QR code, a code; then the recovery codes, shown this once."""
    steps = {"begin": _begin, "confirm": _confirm, "codes": _new_codes, "remove": _remove}
    step = steps.get(request.POST.get("step", ""))
    told = step(request, user) if step else {}
    state = state_of(user)
    context = {
        **context,
        "title": _("Second factor"),
        "is_on": state == State.ON,
        "is_pending": state == State.PENDING,
        "codes_left": recovery_codes_left(user),
        "password_form": PasswordProof(),
        "code_form": CodeProof(),
        "both_form": BothProofs(),
        **told,
    }
    return TemplateResponse(request, "gateway_admin/second_factor.html", context)  # which the admin lets nobody cache


def _begin(request: HttpRequest, user: User) -> dict[str, Any]:
    form = PasswordProof(request.POST)
    if form.is_valid():
        try:
            return {"enrolment": second_factor_begin(user=user, password=form.cleaned_data["password"])}
        except REFUSALS as error:
            add_refusal(form, error)
    return {"password_form": form}


def _confirm(request: HttpRequest, user: User) -> dict[str, Any]:
    form = CodeProof(request.POST)
    if form.is_valid():
        try:
            return {"recovery_codes": second_factor_confirm(user=user, code=form.cleaned_data["code"])}
        except REFUSALS as error:
            add_refusal(form, error)
    return {"code_form": form}


def _new_codes(request: HttpRequest, user: User) -> dict[str, Any]:
    form = BothProofs(request.POST)
    if form.is_valid():
        try:
            return {"recovery_codes": recovery_codes_make(user=user, **form.cleaned_data)}
        except REFUSALS as error:
            add_refusal(form, error)
    return {"both_form": form}


def _remove(request: HttpRequest, user: User) -> dict[str, Any]:
    form = BothProofs(request.POST)
    if form.is_valid():
        try:
            second_factor_remove(user=user, **form.cleaned_data)
        except REFUSALS as error:
            add_refusal(form, error)
        else:
            return {}
    return {"both_form": form}
