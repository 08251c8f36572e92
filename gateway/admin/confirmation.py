"""Nothing far-reaching happens at one click: a page says what will be done to whom, and asks why."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from gateway.admin.refusals import REFUSALS, refusal_text
from gateway.admin.theme import ModelAdmin, TextInput

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

MOST = 500  # rows that one act may concern
_SHOWN = 10  # refusals that are told one by one


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Why"),
        help_text=gettext_lazy("Goes into the audit record."),
        max_length=200,
        widget=TextInput(attrs={"autofocus": True}),
    )


def confirm(
    model_admin: ModelAdmin[Any],
    request: HttpRequest,
    rows: Sequence[Any] | QuerySet[Any],
    *,
    title: "StrOrPromise",
    act: Callable[[Any, dict[str, Any]], object],
    form_class: type[forms.Form] = ReasonForm,
    warning: "StrOrPromise" = "",
    back_url: str = "",
) -> HttpResponse | None:
    """Return the page that asks; once it was answered, do it to each row by itself, and return None.

    `act` gets a row and what was filled in. What it refuses for one row does not stop the others.
    """
    rows = list(rows[: MOST + 1])
    if len(rows) > MOST:
        messages.error(request, _("Choose at most %(count)s at a time.") % {"count": MOST})
        return None
    answered = "confirmed" in request.POST
    form = form_class(request.POST if answered else None)
    if answered and form.is_valid():
        _do(request, rows, act, form.cleaned_data)
        return None
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "warning": warning,
        "form": form,
        "media": form.media,
        "rows": rows,
        "back_url": back_url or request.get_full_path(),
        "action": request.POST.get("action", ""),
        "checkbox_name": ACTION_CHECKBOX_NAME,
    }
    request.current_app = model_admin.admin_site.name  # as Django's own pages do
    return TemplateResponse(request, "gateway_admin/confirm.html", context)


def confirm_here(
    model_admin: ModelAdmin[Any],
    request: HttpRequest,
    object_id: str,
    *,
    title: "StrOrPromise",
    act: Callable[[Any, dict[str, Any]], object],
    form_class: type[forms.Form] = ReasonForm,
    warning: "StrOrPromise" = "",
) -> HttpResponse:
    """Do the same to the one row whose page the act was chosen on, and lead back there. Raises Http404."""
    row = model_admin.get_object(request, object_id)
    if row is None:
        raise Http404
    options = model_admin.opts
    url = reverse(f"admin:{options.app_label}_{options.model_name}_change", args=(row.pk,))
    answer = confirm(
        model_admin, request, [row], title=title, act=act, form_class=form_class, warning=warning, back_url=url
    )
    return answer or redirect(url)


def _do(request: HttpRequest, rows: list[Any], act: Callable[[Any, dict[str, Any]], object], given: Any) -> None:
    refused = []
    for row in rows:
        name = str(row)
        try:
            with transaction.atomic():
                act(row, given)
        except REFUSALS as error:
            refused.append(f"{name}: {refusal_text(error)}")
        except Http404:
            refused.append(_("%(name)s is gone.") % {"name": name})
    for sentence in refused[:_SHOWN]:
        messages.error(request, sentence)
    if len(refused) > _SHOWN:
        messages.error(request, _("%(count)s others were refused too.") % {"count": len(refused) - _SHOWN})
    done = len(rows) - len(refused)
    if done:
        messages.success(request, ngettext("Done.", "Done for %(count)s.", done) % {"count": done})
