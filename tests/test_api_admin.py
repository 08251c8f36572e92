"""What an administrator finds in the admin, and what can be done to it there."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import ApiKey, AuditEntry, FailedSignIns, Role, RouteRule
from accounts.models.mail import MailKind
from accounts.services import failed_sign_ins
from accounts.services.mail import mail_send
from accounts.services.sessions import session_start
from accounts.tests.people import client_with_key
from commands.models import Command
from conftest import PASSWORD
from gateway.admin import paginator
from gateway.ids import first_id_at, new_id
from integrations.alarms.models import Alarm, AlarmRule
from integrations.models import ServiceInstance
from tests.rows import ended_command

pytestmark = pytest.mark.django_db

USERS, COMMANDS, FILES = "/admin/accounts/user/", "/admin/commands/command/", "/admin/files/storedfile/"
ROLES, RULES = "/admin/accounts/role/", "/admin/accounts/routerule/"
SESSIONS, KEYS = "/admin/accounts/devicesession/", "/admin/accounts/apikey/"
FAILURES, MAILS, AUDIT = "/admin/accounts/failedsignins/", "/admin/accounts/mail/", "/admin/accounts/auditentry/"
READ_ONLY = [COMMANDS, FILES]
OF_SOMEBODY = [USERS, SESSIONS, KEYS, MAILS, AUDIT, *READ_ONLY]
SERVICES = "/admin/integrations/serviceinstance/"
ALARMS, ALARM_RULES = "/admin/integrations/alarm/", "/admin/integrations/alarmrule/"
ALL = [*OF_SOMEBODY, ROLES, RULES, FAILURES, SERVICES, ALARMS, ALARM_RULES]


@pytest.fixture
def command(alice):
    return ended_command(alice, text="echo <script>alert(1)</script>")


@pytest.fixture
def ids(command, alice):
    """The id of a row for each list."""
    client_with_key(alice)
    session, _tokens = session_start(login="alice", password=PASSWORD, device_name="<script>alert(1)</script>")
    failed_sign_ins.failed(failed_sign_ins.check("alice"))
    rule = RouteRule.objects.create(method="GET", route="users", permission="accounts.view_user", reason="because")
    return {
        USERS: command.user_id,
        COMMANDS: command.id,
        FILES: command.files[0].id,
        ROLES: Role.objects.get(name=Role.ADMIN).id,
        RULES: rule.id,
        SESSIONS: session.id,
        KEYS: ApiKey.objects.get().id,
        MAILS: mail_send(MailKind.VERIFY_EMAIL, user=alice).id,
        FAILURES: FailedSignIns.objects.first().id,
        SERVICES: ServiceInstance.objects.create(kind="runner", base_url="http://runner", source="admin").id,
        ALARMS: Alarm.objects.create(condition="service_down", subject="<script>alert(1)", since=timezone.now()).id,
        ALARM_RULES: AlarmRule.objects.create(condition="service_down").id,
        AUDIT: AuditEntry.objects.get(target_id=str(session.id)).id,
    }


@pytest.mark.parametrize("path", ALL)
def test_lists_and_pages_open(admin_client, ids, path):
    for page in (path, f"{path}{ids[path]}/change/", f"{path}{ids[path]}/history/"):
        answer = admin_client.get(page)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.content.decode()


@pytest.mark.parametrize("path", [USERS, ROLES, RULES, ALARM_RULES])
def test_forms_for_new_rows_open(admin_client, path):
    assert admin_client.get(f"{path}add/").status_code == 200


def test_the_page_of_a_command_tells_its_story(admin_client, command):
    page = admin_client.get(f"{COMMANDS}{command.id}/change/").content.decode()
    for run in command.stage_runs.all():
        assert run.get_stage_display() in page
    for event in command.events.all():
        assert event.get_status_display() in page
    assert "Merhaba" in page


def test_the_page_of_a_command_leads_to_its_user_files_and_retries(admin_client, command):
    retry = ended_command(command.user)
    Command.objects.filter(pk=retry.pk).update(retry_of=command)
    page = admin_client.get(f"{COMMANDS}{command.id}/change/").content.decode()
    for path in (
        f"{USERS}{command.user_id}",
        f"{COMMANDS}{retry.id}",
        *(f"{FILES}{file.id}" for file in command.files),
    ):
        assert f'href="{path}/change/"' in page


def test_the_page_of_a_file_shows_its_content_or_that_it_is_lost(admin_client, command):
    file = command.files[0]
    path = f"{FILES}{file.id}/change/"
    assert "Merhaba dünya" in admin_client.get(path).content.decode()
    default_storage.delete(file.content.name)
    assert "The storage does not have this file." in admin_client.get(path).content.decode()


def test_a_file_leads_to_its_owner_and_its_command(admin_client, command):
    for file in command.files:
        page = admin_client.get(f"{FILES}{file.id}/change/").content.decode()
        assert f'href="{USERS}{command.user_id}/change/"' in page
        assert f'href="{COMMANDS}of-file/{file.id}/"' in page
        answer = admin_client.get(f"{COMMANDS}of-file/{file.id}/")
        assert answer["Location"] == f"{COMMANDS}{command.id}/change/"
    assert admin_client.get(f"{COMMANDS}of-file/{new_id()}/").status_code == 404


@pytest.mark.parametrize("path", READ_ONLY)
def test_what_the_gateway_wrote_can_only_be_read(admin_client, ids, path):
    page = f"{path}{ids[path]}"
    for forbidden in (f"{path}add/", f"{page}/delete/"):
        assert admin_client.get(forbidden).status_code == 403
        assert admin_client.post(forbidden, {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{page}/change/", {"text": "x", "name": "x"}).status_code == 403
    assert admin_client.post(path, {"action": "delete_selected", "_selected_action": [ids[path]]}).status_code in (
        200,
        302,
    )
    assert admin_client.get(f"{page}/change/").status_code == 200


@pytest.mark.security
@pytest.mark.security_access
@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("person", ["alice", "stranger"])
def test_nobody_else_gets_in(client, ids, alice, path, person):
    if person == "alice":
        client.force_login(alice)
    pages = (path, f"{path}{ids[path]}/change/", f"{path}{ids[path]}/delete/", f"{path}{ids[path]}/history/")
    for page in (*pages, f"{path}add/", f"{COMMANDS}of-file/{ids[FILES]}/"):
        for send in (client.get, client.post):
            answer = send(page)
            assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={page}")
            if person == "alice":
                client.force_login(alice)


def found(client, path, query):
    answer = client.get(path, {"q": query})
    assert answer.status_code == 200
    return [row.pk for row in answer.context["cl"].result_list]


@pytest.mark.parametrize("path", OF_SOMEBODY)
def test_one_finds_a_row_by_whose_it_is(admin_client, ids, bob, path):
    ended_command(bob)
    assert ids[path] in found(admin_client, path, "alice")
    assert bob.id not in found(admin_client, path, "alice")
    assert found(admin_client, path, "nobody") == []


@pytest.mark.parametrize("path", [COMMANDS, FILES, SESSIONS, KEYS, MAILS])
def test_one_lists_what_is_of_a_user(admin_client, ids, alice, bob, path):
    for value in (alice.id, "alice", "ALICE@example.com"):
        rows = admin_client.get(path, {"user": value}).context["cl"].result_list
        assert ids[path] in [row.pk for row in rows]
    for value in (bob.id, "bob", new_id(), "x" * 5000):
        assert list(admin_client.get(path, {"user": value}).context["cl"].result_list) == []


@pytest.mark.parametrize("path", [USERS, *READ_ONLY, SESSIONS, KEYS, MAILS, AUDIT])
def test_one_finds_a_row_by_its_id(admin_client, ids, path):
    assert found(admin_client, path, str(ids[path])) == [ids[path]]


@pytest.mark.parametrize("path", ALL)
def test_no_search_breaks_the_list(admin_client, ids, path):
    for query in ("x", "\0", "%", "'", '"', "\\", "🔑", "x" * 5000, "0" * 40, "--", "a b c"):
        assert admin_client.get(path, {"q": query}).status_code == 200, query


BAD_PARAMETERS = [
    "p=x",
    "p=99999999999999999999",
    "p=-1",
    "o=x",
    "o=99",
    "nothing=1",
    "created_at__gte=x",
    "created_at_from=x&created_at_to=%00",
    "created_at_from=0001-01-01&created_at_to=9999-12-31",
    "status__exact=x",
    "status__exact=%00",
    "id__exact=x",
    "pk__in=x",
    "pk__regex=((((((((((a*)*)*)*)*)",
    "user__last_login__year=99999999999999999999",
    "address=x",
    "scopes__contains=x",
    "key_sha256__startswith=a",
    "user=%00",
    "actor=%00",
    "%00=1",
    "state=x",
    "all=",
    "_facets=1",
]


@pytest.mark.parametrize("path", ALL)
def test_a_bad_parameter_leads_back_to_the_list(admin_client, path):
    for parameter in BAD_PARAMETERS:
        answer = admin_client.get(f"{path}?{parameter}")
        assert answer.status_code == 200 or answer.headers.get("Location") == f"{path}?e=1", parameter
    assert admin_client.get(f"{path}?e=1").status_code == 200


@pytest.mark.security
@pytest.mark.security_access
@pytest.mark.parametrize("path", ALL)
def test_only_what_a_filter_uses_is_looked_for(admin_client, path):
    """A regex takes for ever on the text of one's choice, and with it the whole process."""
    answer = admin_client.get(f"{path}?pk__regex=.")
    assert (answer.status_code, answer["Location"]) == (302, f"{path}?e=1")


@pytest.mark.parametrize("path", ALL)
def test_a_page_that_is_not_there_leads_back(admin_client, path):
    for wrong in ("x", "0", "99999999999999999999", "%00", "00000000-0000-7000-8000-000000000000"):
        for page in ("change", "history", "delete"):
            answer = admin_client.get(f"{path}{wrong}/{page}/")
            assert answer.status_code in (302, 403, 404), (wrong, page)


# --- large tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [COMMANDS, FILES, AUDIT, SESSIONS, MAILS])
def test_no_list_of_a_large_table_counts_it(admin_client, ids, path):
    admin_client.get("/admin/")  # from now on it is known who asks
    with CaptureQueriesContext(connection) as captured:
        admin_client.get(path)
    counts = [query["sql"] for query in captured if "COUNT(" in query["sql"]]
    assert counts
    assert all(f"LIMIT {paginator.MOST + 1}" in count for count in counts)
    table = "_".join(path.split("/")[2:4])
    ordered = [query["sql"] for query in captured if "ORDER BY" in query["sql"] and f'FROM "{table}"' in query["sql"]]
    [rows] = [sql for sql in ordered if not sql.endswith("LIMIT 1")]  # which is how it is found out who asks
    assert rows.count("ORDER BY") == 1
    assert re.search(r'ORDER BY "\w+"."id" DESC', rows)


def test_the_pages_end_where_counting_ended_and_say_so(admin_client, alice, monkeypatch):
    monkeypatch.setattr(paginator, "MOST", 60)
    for _ in range(61):
        ended_command(alice)
    page = admin_client.get(COMMANDS, {"p": 2})
    assert len(page.context["cl"].result_list) == 10
    assert "The newest 60." in page.content.decode()
    assert admin_client.get(COMMANDS, {"p": 3})["Location"] == f"{COMMANDS}?e=1"


def test_days_are_found_by_the_time_in_the_ids(admin_client, command):
    now = timezone.now()
    old = Command.objects.get(pk=command.pk)
    old.pk = first_id_at(now - timedelta(days=2))
    old.alt_file = old.last_file = old.atlas_file = None
    old.save(force_insert=True)
    day = f"{now - timedelta(days=2):%Y-%m-%d}"

    def listed(**query):
        return [row.pk for row in admin_client.get(COMMANDS, query).context["cl"].result_list]

    assert listed(created_at_from=day, created_at_to=day) == listed(created_at_to=day) == [old.pk]
    assert listed(created_at_from=day) == [command.pk, old.pk]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("status__exact=completed", 1),
        ("status__exact=failed", 0),
        ("mode__exact=normal", 1),
        ("priority__exact=high", 0),
        ("finished=yes", 1),
        ("finished=no", 0),
        ("step=no", 1),
        ("step=runner", 0),
        ("step=x", 1),
    ],
)
def test_commands_are_filtered(admin_client, command, query, count):
    assert len(admin_client.get(f"{COMMANDS}?{query}").context["cl"].result_list) == count


# --- without the internet -------------------------------------------------------------------------------------------


@pytest.fixture
def collected(tmp_path, settings):
    """The static files as production has them: each under a name made of its content."""
    storage = {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
    settings.STATIC_ROOT = tmp_path
    settings.WHITENOISE_KEEP_ONLY_HASHED_FILES = False
    settings.WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ["css", "js", "map", "svg"]  # it takes seconds
    call_command("collectstatic", interactive=False, verbosity=0)
    return tmp_path


def test_all_that_the_pages_load_is_here_in_production_too(collected, admin_client, client, ids):
    rows = [f"{path}{ids[path]}/change/" for path in ALL]
    more = ["/admin/", "/admin/password_change/", "/admin/second-factor/", f"{USERS}{ids[USERS]}/password/"]
    pages = [*ALL, *rows, *more, *(f"{path}add/" for path in (USERS, ROLES, RULES)), f"{USERS}{ids[USERS]}/unlock/"]
    texts = [admin_client.get(page).content.decode() for page in pages] + [client.get("/admin/login/").content.decode()]
    loaded = {url for text in texts for url in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', text)}
    assert len(loaded) > 10
    for url in loaded - {"/admin/jsi18n/"}:
        if not url.startswith("data:"):
            assert url.startswith("/static/"), url
            assert (collected / url.removeprefix("/static/")).exists(), url
    for sheet in Path(collected).rglob("*.css"):
        if sheet.parts[-2] != "drf_spectacular_sidecar":
            assert not re.search(r"url\([\"']?(https?:)?//", sheet.read_text()), sheet
