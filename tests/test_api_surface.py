"""The API as a whole: every endpoint is guarded on purpose, documented, and strict about its parameters."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from django.utils.regex_helper import normalize
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.views import APIView

from accounts.models import Role
from accounts.routes import routes
from commands.api.serializers import LINKED
from commands.callbacks import callback_token
from commands.states import Stage
from gateway.api.errors import ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import fields_of, problem_of
from integrations.alarms.models import Alarm
from integrations.models import ServiceInstance
from tests.rows import ended_command, ended_step

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

OPEN_TO_STRANGERS = {
    "health",
    "health-live",
    "health-ready",
    "health-services",
    "health-services-of-kind",
    "api-docs",
    "api-docs-redoc",
    "api-docs-errors",
    "schema",
    "auth-login",
    "auth-refresh",
    "auth-register",
    "auth-email-verify",
    "auth-password-forgot",
    "auth-password-reset",
    "runner-callback",
}
NO_PARAMETERS_OF_OURS = {"schema", "api-docs", "api-docs-redoc"}  # views of drf-spectacular
METHODS = ("get", "post", "put", "patch", "delete")


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Yield every path of the gateway but the admin's, as Django writes it (`%(name)s` for a parameter)."""
    for entry in resolver.url_patterns:
        if str(entry.pattern).startswith("admin/"):
            continue
        [(path, _names), *_] = normalize(prefix + entry.pattern.regex.pattern.lstrip("^"))
        if isinstance(entry, URLResolver):
            yield from patterns(entry, prefix + str(entry.pattern))
        else:
            yield "/" + path, entry


ENDPOINTS = {str(entry.name): (path, entry) for path, entry in patterns(get_resolver())}
_CLASSES = {name: getattr(entry.callback, "view_class", object) for name, (_path, entry) in ENDPOINTS.items()}
API_VIEWS = {name: view for name, view in _CLASSES.items() if issubclass(view, APIView)}


def path_of(name: str, **values: Any) -> str:
    """Return the path of an endpoint, with ids of nothing where none is given."""
    return str(
        ENDPOINTS[name][0]
        % defaultdict(new_id, {"token": callback_token(new_id(), Stage.RUNNER), "kind": "runner", **values})
    )


def methods_of(name: str) -> list[str]:
    return [method for method in METHODS if hasattr(API_VIEWS[name], method)]


OPERATIONS = [(name, method) for name in API_VIEWS for method in methods_of(name)]


def test_every_path_was_found():
    assert len(ENDPOINTS) == len(list(patterns(get_resolver())))
    assert {"auth-login", "me", "commands", "command-result", "file-content", "realtime-ticket"} <= API_VIEWS.keys()
    assert ENDPOINTS.keys() >= OPEN_TO_STRANGERS


@pytest.mark.parametrize("name", API_VIEWS)
def test_every_view_states_its_permission_itself(name):
    view = API_VIEWS[name]
    assert any("permission_classes" in vars(base) for base in view.__mro__ if base is not APIView), view
    assert view.permission_classes
    in_table = {route.method.lower() for route in routes() if route.name == name}
    assert in_table == (set() if name in NO_PARAMETERS_OF_OURS else set(methods_of(name)))


@pytest.mark.parametrize(("name", "method"), OPERATIONS)
def test_a_stranger_is_asked_to_sign_in_unless_the_door_is_open_on_purpose(api, name, method):
    answer = getattr(api(None), method)(path_of(name), **({} if method == "get" else {"data": {}}))
    if name in OPEN_TO_STRANGERS:
        assert answer.status_code != 401
    else:
        problem_of(answer, ErrorCode.NOT_AUTHENTICATED)


@pytest.mark.parametrize("name", ENDPOINTS.keys() - API_VIEWS.keys())
def test_what_is_not_a_view_of_the_api_is_open_on_purpose(client, name):
    assert name in OPEN_TO_STRANGERS
    assert client.get(path_of(name)).status_code in (200, 503)


@pytest.mark.parametrize(("name", "method"), [pair for pair in OPERATIONS if pair[0] not in NO_PARAMETERS_OF_OURS])
def test_a_parameter_that_is_unknown_is_named(api, admin, name, method):
    answer = getattr(api(admin), method)(path_of(name) + "?colour=blue", **({} if method == "get" else {"data": {}}))
    assert fields_of(answer) == {"colour": "unknown_field"}


@pytest.mark.parametrize("name", ["command", *(f"command-{part}" for part in LINKED)])
def test_the_command_of_another_is_not_there(api, alice, bob, admin, name):
    path = path_of(name, command_id=ended_command(alice).id)
    method = methods_of(name)[0]
    assert getattr(api(alice), method)(path).status_code in (200, 409)
    for person in (bob, admin):
        problem_of(getattr(api(person), method)(path), ErrorCode.NOT_FOUND)


def test_the_list_holds_only_ones_own_commands(api, alice, bob, admin):
    own = {person: str(ended_command(person).id) for person in (alice, bob)}
    for person in (alice, bob, admin):
        ids = [row["id"] for row in api(person).get("/api/v2/commands").json()["results"]]
        assert ids == [command_id for owner, command_id in own.items() if owner == person]


NO_OWN_DATA = {"archive-search"}  # what it answers comes from elsewhere: commands/tests/test_archive_search.py


@pytest.mark.parametrize(
    "name", [name for name, method in OPERATIONS if method == "get" and name not in OPEN_TO_STRANGERS | NO_OWN_DATA]
)
def test_what_one_has_is_not_sent_again(api, admin, name):
    command = ended_command(admin)
    role = Role.objects.get(name=Role.ADMIN)
    ids = {"command_id": command.id, "file_id": command.files[0].id, "user_id": admin.id, "role_id": role.public_id}
    service = ServiceInstance.objects.create(kind="runner", base_url="http://runner", source="admin")
    kind = name.removesuffix("-step")
    step_id = ended_step(admin, Stage(kind)).id if kind in Stage.values else new_id()
    alarm = Alarm.objects.create(condition="service_down", subject="runner", since=timezone.now())
    path = path_of(name, **ids, service_id=service.id, step_id=step_id, alarm_id=alarm.id)
    client = api(admin)
    first = client.get(path)
    assert first.status_code == 200
    again = client.get(path, HTTP_IF_NONE_MATCH=first["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, HTTP_IF_NONE_MATCH='"other"').content == first.content


@pytest.fixture
def schema():
    GENERATOR_STATS.reset()
    return SchemaGenerator().get_schema(request=None, public=True)


def test_the_schema_is_valid_and_made_without_a_warning(schema):
    validate_schema(schema)
    assert not GENERATOR_STATS


def test_the_schema_lists_every_operation_of_version_2(schema):
    documented = {(path, method) for path, item in schema["paths"].items() for method in item if method in METHODS}
    exist = {
        (ENDPOINTS[name][0].replace("%(", "{").replace(")s", "}"), method)
        for name, method in OPERATIONS
        if name not in NO_PARAMETERS_OF_OURS | {"runner-callback", "metrics"}
    }
    assert documented == exist


def test_every_operation_says_in_words_what_it_does_and_how_errors_look(schema):
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            assert operation.get("description"), (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"]


@pytest.mark.parametrize(
    "path",
    [f"/api/v2/{name}" for name in ("commands", "commands/bulk", "commands/bulk-cancel", "auth/login", *Stage.values)],
)
def test_the_first_calls_of_a_newcomer_have_examples(schema, path):
    body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert all(example["value"] for example in body["examples"].values())


def test_the_schema_and_its_pages_are_served(client):
    assert client.get("/api/v2/schema").status_code == 200
    for path in ("/api-docs", "/api-docs/redoc"):
        page = client.get(path).content.decode()
        assert "/api/v2/schema" in page
        assert "https://" not in page.replace("https://www.w3.org", "")
