"""The bases of all pages: writable ones save through services, the others only show."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gateway.admin.confirmation import confirm
from gateway.admin.paginator import BoundedPaginator
from gateway.admin.refusals import REFUSALS, add_refusal
from gateway.admin.theme import InlineFormSet, ModelAdmin, TabularInline

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

M = TypeVar("M", bound=Model)
EMPTY = "–"


def shown_once(compute: Callable[[Any, M], Any]) -> Callable[[Any, M], Any]:
    """Keep what a computed field shows of a row: the theme asks for it several times for one page."""

    @wraps(compute)
    def inner(self: Any, row: M) -> Any:
        kept = row.__dict__.setdefault("_shown_once", {})
        if compute.__name__ not in kept:
            kept[compute.__name__] = compute(self, row)
        return kept[compute.__name__]

    return inner


class GatewayAdmin(ModelAdmin[M]):
    """A list with a search that knows ids, and filters in one form."""

    show_full_result_count = False
    list_filter_submit = True
    show_facets = admin.ShowFacets.NEVER  # one count for each choice of each filter
    list_per_page = 50
    empty_value_display = EMPTY
    search_ids: tuple[str, ...] = ("pk",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[M], search_term: str
    ) -> tuple[QuerySet[M], bool]:
        """Find by an id in an index, not by comparing every row's text."""
        try:
            wanted = UUID(search_term.strip())
        except ValueError:
            return super().get_search_results(request, queryset, search_term)
        found = Q()
        for field in self.search_ids:
            found |= Q(**{field: wanted})
        return queryset.filter(found), False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> M | None:
        try:
            return super().get_object(request, object_id, from_field)
        except OverflowError:  # a number that no row can have, in SQLite
            return None

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            changelist: Any = super().get_changelist_instance(request)
        except DisallowedModelAdminLookup as error:
            raise IncorrectLookupParameters from error  # leads back to the list, as others do
        changelist.full_result_count = changelist.result_count  # else the title counts too, and not as honestly
        return changelist

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if self.is_unreadable(request) or not self._are_ids(request.POST.getlist(ACTION_CHECKBOX_NAME)):
            return HttpResponseRedirect(f"{request.path}?e=1")  # as Django does with other bad parameters
        return super().changelist_view(request, extra_context)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow what a filter of this list uses.

        Django would let one look by any field, and by a regex that takes for ever: a link sent to an administrator is
        enough.
        """
        allowed: set[str] = set()
        filters: Any = self.list_filter
        for each in filters:
            if isinstance(each, str | tuple):
                field = each if isinstance(each, str) else each[0]
                allowed |= {f"{field}{end}" for end in ("", "__exact", "__isnull", "_from", "_to")}
            else:
                allowed.add(each.parameter_name)
        return lookup in allowed

    def is_unreadable(self, request: HttpRequest) -> bool:
        """Tell whether a filter has what a database cannot look for; the search sees to itself."""
        given = [value for name, values in request.GET.lists() if name != SEARCH_VAR for value in (name, *values)]
        return any("\0" in value for value in given)

    def _are_ids(self, values: list[str]) -> bool:
        """Tell whether rows can be looked for by these, of which Django does not make sure."""
        key: Any = self.opts.pk
        while key.remote_field:
            key = key.target_field
        try:
            for value in values:
                key.run_validators(key.to_python(value))
        except ValidationError:
            return False
        return True


class SavingAdmin(GatewayAdmin[M]):
    """Saves and deletes through services. What they refuse is said on the form, and nothing has changed.

    A service writes the audit record; `reason` is what the administrator gave for it.
    """

    delete_warning: "StrOrPromise" = ""
    change_form_outer_before_template = "gateway_admin/audit_link.html"

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except REFUSALS as error:  # the transaction is undone: show the form again, which now says so
            request._refusal = error  # type: ignore[attr-defined]  # noqa: SLF001 - for get_form
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(self, request: HttpRequest, obj: M | None = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002 - Django's
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        refusal: Exception | None = getattr(request, "_refusal", None)
        if refusal is None:
            return form

        known = refusal

        class Refused(form):  # type: ignore[misc]  # made at run time by Django too
            def full_clean(self) -> None:
                super().full_clean()
                add_refusal(self, known)

        return Refused

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        saved = self.save(request, obj, form, change=change)
        obj.__dict__.update(saved.__dict__)  # what Django goes on with: it has written the form's values into `obj`

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        """Leave relations to `save`; inlines only show."""
        for formset in formsets:
            formset.save()  # nothing, but Django's history asks what it was

    def save(self, request: HttpRequest, obj: M, form: Any, *, change: bool) -> M:
        """Save what the form says, by a service. Return the row as it is then."""
        raise NotImplementedError

    def delete(self, request: HttpRequest, obj: M, reason: str) -> None:
        """Delete a row, by a service."""
        raise NotImplementedError

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Write nothing into Django's own log: the audit record has it, and more."""

    log_change = log_addition

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Write nothing: the same."""

    def get_formset_kwargs(self, request: HttpRequest, obj: M, inline: Any, prefix: str) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        if isinstance(inline, ReadOnlyInline):
            kwargs = {name: value for name, value in kwargs.items() if name not in ("data", "files", "save_as_new")}
        return kwargs

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)  # it asks for no reason, and knows no services
        return actions

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, obj):
            raise PermissionDenied
        if obj is None:
            raise Http404
        title = _("Delete %(name)s?") % {"name": obj}
        answer = confirm(
            self,
            request,
            [obj],
            title=title,
            act=lambda row, given: self.delete(request, row, given["reason"]),
            warning=self.delete_warning,
            back_url=page_url(obj),
        )
        return answer or redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


class _ReadOnly:
    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(_ReadOnly, GatewayAdmin[M]):
    """Rows that the gateway itself writes, however many: administrators find and read them."""

    paginator = BoundedPaginator
    list_disable_select_all = True
    list_max_show_all = 0
    ordering = ("-pk",)
    sortable_by = ()  # sorting would read the whole table


class ReadOnlyFormSet(InlineFormSet[Any, Any, Any]):
    """Rows that are shown, whatever the form beside them says: they may change between reading and saving it."""

    def is_valid(self) -> bool:
        return True

    def save(self, commit: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - Django's
        self.new_objects, self.changed_objects, self.deleted_objects = [], [], []
        return []


class ReadOnlyInline(_ReadOnly, TabularInline[M, Model]):
    formset = ReadOnlyFormSet
    extra = 0
    hide_title = True


def page_link(target: Model | None, text: "StrOrPromise" = "") -> SafeString | str:
    """Return a link to the page of a row."""
    if target is None:
        return EMPTY
    return format_html('<a href="{}" class="text-link">{}</a>', page_url(target), text or target)


def page_url(target: Model) -> str:
    options = target._meta  # noqa: SLF001 - documented API of models
    return reverse(f"admin:{options.app_label}_{options.model_name}_change", args=(target.pk,))


def list_link(model: type[Model], text: "StrOrPromise", filters: Mapping[str, Any]) -> SafeString:
    """Return a link to a list, filtered."""
    options = model._meta  # noqa: SLF001 - the same
    url = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    return format_html('<a href="{}?{}" class="text-link">{}</a>', url, urlencode(filters), text)


def permission_list(names: Iterable[str]) -> SafeString | str:
    """Return names of permissions, `app_label.codename`, as a list that keeps out of the way until it is opened."""
    names = sorted(names)
    if not names:
        return EMPTY
    items = format_html_join("", "<li>{}</li>", ((name,) for name in names))
    title = ngettext("%(count)s permission", "%(count)s permissions", len(names)) % {"count": len(names)}
    return format_html('<details class="permissions"><summary>{}</summary><ul>{}</ul></details>', title, items)


F = TypeVar("F", bound=Callable[..., Any])


class Labelled(tuple[str, "StrOrPromise"]):
    """A key, which has the colour, and its text; on a page, the text alone."""

    __slots__ = ()

    def __new__(cls, key: str, text: "StrOrPromise") -> Self:
        return super().__new__(cls, (key, text))

    def __html__(self) -> str:
        return escape(str(self[1]))


def label(description: "StrOrPromise", colours: Mapping[str, str]) -> Callable[[F], F]:
    """Show the Labelled that the function returns in a colour."""

    def mark(function: F) -> F:
        function.label = dict(colours)  # type: ignore[attr-defined]
        return admin.display(description=description)(function)

    return mark
