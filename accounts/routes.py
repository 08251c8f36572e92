"""Every route of the API with the permission that it asks for, read from the URL table."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.regex_helper import normalize

from gateway.api.permissions import Access, required_permission
from gateway.api.views import ApiView

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Route:
    """One method of one path. `name` is that of the URL pattern; `required` is None if nothing was stated."""

    method: str
    name: str
    path: str
    view: type[ApiView]

    @property
    def required(self) -> str | Access | None:
        return required_permission(self.view, self.method)

    @property
    def is_for_devices_only(self) -> bool:
        """Whether an API key is kept out."""
        return self.required == Access.DEVICE_SESSION or self.view.device_session_only


def routes() -> list[Route]:
    """Return all routes of the API, by path and method."""
    return sorted(_routes(get_resolver(), ""), key=lambda route: (route.path, METHODS.index(route.method)))


def _routes(resolver: URLResolver, prefix: str) -> Iterator[Route]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            yield from _routes(entry, prefix + str(entry.pattern))
        elif isinstance(entry, URLPattern):
            view: type = getattr(entry.callback, "view_class", object)
            if issubclass(view, ApiView):
                [(path, _names), *_] = normalize(prefix + entry.pattern.regex.pattern.lstrip("^"))
                path = "/" + path.replace("%(", "{").replace(")s", "}")
                for method in METHODS:
                    if hasattr(view, method.lower()):
                        yield Route(method, str(entry.name), path, view)
