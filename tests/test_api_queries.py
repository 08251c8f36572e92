"""A read costs the same number of queries whatever there is."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_redis import get_redis_connection

from accounts.audit import Action, record
from accounts.models import RouteRule, User
from accounts.models.mail import MailKind
from accounts.routes import routes
from accounts.services import failed_sign_ins
from accounts.services.mail import mail_send
from accounts.tests.people import client_with_key, role_with
from commands.states import Stage
from conftest import PASSWORD, session_of
from integrations.alarms.models import Alarm, AlarmRule
from integrations.models import ServiceCheck, ServiceInstance
from tests.rows import ended_command, ended_step

pytestmark = pytest.mark.django_db

MANY = 20


def queries_of(client, path):
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return [query["sql"] for query in captured]


def paths_of(command):
    own = f"/api/v2/commands/{command.id}"
    file = f"/api/v2/files/{command.files[0].id}"
    step = ended_step(command.user, Stage.RUNNER, repeats=command.stage_runs.count() // 3)
    return [
        "/api/v2/me",
        "/api/v2/commands",
        "/api/v2/commands?q=merhaba&mode=normal&created_after=2026-01-01T00:00:00Z",
        "/api/v2/commands/stats?interval=day",
        own,
        f"{own}/events",
        f"{own}/timeline",
        f"{own}/result",
        file,
        f"{file}/content",
        f"/api/v2/runner/{step.id}",
    ]


def test_each_read_costs_as_much_with_twenty_rows_as_with_one(api, alice):
    client = api(alice)
    client.get("/api/v2/me")  # from now on it is known who asks, without the database
    few = {path: len(queries_of(client, path)) for path in paths_of(ended_command(alice))}
    for _ in range(MANY):
        command = ended_command(alice, repeats=MANY)
    many = {path: len(queries_of(client, path)) for path in paths_of(command)}
    assert list(few.values()) == list(many.values())
    assert max(many.values()) <= 4, many  # a timeline: tries, their services, and the last events


def test_each_read_of_services_costs_as_much_with_twenty_as_with_one(api, admin):
    client = api(admin)
    client.get("/api/v2/me")

    def counts(number):
        for each in range(number):
            row = ServiceInstance.objects.create(kind="runner", base_url=f"http://runner-{number}-{each}", source="api")
            ServiceCheck.objects.bulk_create(ServiceCheck(instance=row, ok=True, latency_ms=3) for _ in range(number))
        own = f"/api/v2/services/{row.id}"
        paths = ("/api/v2/services?limit=100", own, f"{own}/checks", "/health/services/runner")
        get_redis_connection("default").delete("service-health:runner")
        return {path.replace(str(row.id), "id"): len(queries_of(client, path)) for path in paths}

    few = counts(1)
    assert counts(MANY) == few
    assert few["/health/services/runner"] == 2
    assert queries_of(client, "/health/services/runner") == []  # it is remembered for a moment


ADMIN_LISTS = [
    "accounts/user/",
    "accounts/role/",
    "accounts/routerule/",
    "accounts/devicesession/",
    "accounts/apikey/",
    "accounts/failedsignins/",
    "accounts/mail/",
    "accounts/auditentry/",
    "commands/command/",
    "commands/retentionrule/",
    "files/storedfile/",
    "integrations/serviceinstance/",
    "integrations/alarm/",
    "integrations/alarmrule/",
]


def rows_of_everything(user, number):
    """A row more in each list of the admin."""
    ended_command(user)
    client_with_key(user)
    role = role_with(f"role {number}", "accounts.view_user")
    user.groups.add(role)
    route, permission = sorted({(rule.method, rule.name) for rule in routes()})[number], "accounts.view_user"
    rule = RouteRule.objects.create(method=route[0], route=route[1], permission=permission, reason="because")
    session_of(user)
    failed_sign_ins.failed(failed_sign_ins.check(f"login {number}"))
    mail_send(MailKind.VERIFY_EMAIL, user=user)
    service = ServiceInstance.objects.create(kind="runner", base_url=f"http://runner-{number}", source="api")
    ServiceCheck.objects.create(instance=service, ok=True, latency_ms=3)
    alarm_rule = AlarmRule.objects.create(condition="service_down")
    Alarm.objects.create(rule=alarm_rule, condition="service_down", subject="runner", since=service.created_at)
    for target in (user, role, rule):
        record(Action.USER_CHANGED, actor=user, target=target, changes={"x": (1, 2)})


def users(number):
    return User.objects.create_user(f"user{number}", f"user{number}@example.com", PASSWORD)


def test_each_list_of_the_admin_costs_as_much_with_twenty_rows_as_with_one(admin_client):
    paths = [f"/admin/{path}" for path in ("", *ADMIN_LISTS)]
    rows_of_everything(users(0), 0)
    for path in paths:
        queries_of(admin_client, path)  # from now on it is known who asks, and what content types there are
    few = {path: len(queries_of(admin_client, path)) for path in paths}
    for number in range(1, MANY):
        rows_of_everything(users(number), number)
    assert {path: len(queries_of(admin_client, path)) for path in paths} == few


def test_the_page_of_a_user_costs_as_much_with_many_of_everything_as_with_one(admin_client):
    user = users(0)
    path = f"/admin/accounts/user/{user.pk}/change/"
    rows_of_everything(user, 0)
    queries_of(admin_client, path)
    few = queries_of(admin_client, path)
    for number in range(1, MANY):
        rows_of_everything(user, number)
    assert len(queries_of(admin_client, path)) == len(few)


def test_the_page_of_a_command_costs_as_much_with_many_events_as_with_few(admin_client, admin_user):
    few, many = (ended_command(admin_user, repeats=repeats) for repeats in (1, MANY))
    paths = [f"/admin/commands/command/{command.id}/change/" for command in (few, many)]
    queries_of(admin_client, paths[0])  # fills the cache of content types
    counts = {len(queries_of(admin_client, path)) for path in paths}
    assert len(counts) == 1
