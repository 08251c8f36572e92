from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, register

from accounts.routes import routes
from gateway.api.permissions import Access


@register
def every_route_states_its_permission(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse a route of the API that serves nobody because somebody forgot to say whom it serves, or misspelt it."""
    exist = _permissions()
    errors: list[CheckMessage] = []
    for route in routes():
        place = f"{route.method} {route.name} ({route.path})"
        if route.required is None:
            errors.append(Error(f"{place} states no permission", obj=route.view, id="accounts.E001"))
        elif not isinstance(route.required, Access) and route.required not in exist:
            message = f"{place} asks for {route.required}, which no model defines"
            errors.append(Error(message, obj=route.view, id="accounts.E002"))
    return errors


def _permissions() -> set[str]:
    """Return the permissions that `migrate` makes, without asking the database: a check must run before it."""
    names = set()
    for model in apps.get_models():
        options = model._meta  # noqa: SLF001 - Django's documented API of models
        codenames = [f"{action}_{options.model_name}" for action in options.default_permissions]
        codenames += [codename for codename, _name in options.permissions]
        names |= {f"{options.app_label}.{codename}" for codename in codenames}
    return names
