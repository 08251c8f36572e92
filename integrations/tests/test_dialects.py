"""Which dialects there are, and that a wrong one does not start."""

import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from integrations.checks import check_dialects, check_urls
from integrations.clients.dialects import DIALECTS, client_for, names_of
from integrations.registry import Instance, ServiceKind, instances


def test_each_kind_has_its_dialects():
    assert {kind: names_of(kind) for kind in ServiceKind} == {
        "segmentation": ["a", "b", "standard"],
        "runner": ["b", "standard"],
        "archive": ["b", "standard"],
    }


def test_a_client_is_of_the_kind_and_the_dialect():
    for (kind, name), client in DIALECTS.items():
        assert client.kind is kind
        assert type(client_for(Instance(kind, "http://one", name))) is client


@pytest.mark.django_db
def test_instances_speak_as_the_settings_say(settings):
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": ["http://one/"]}
    settings.SERVICE_DIALECTS = settings.SERVICE_DIALECTS | {"runner": "b"}
    assert instances(ServiceKind.RUNNER) == [Instance(ServiceKind.RUNNER, "http://one", "b")]


class TestStart:
    @pytest.mark.parametrize(
        ("kind", "dialect", "shared", "remote", "named"),
        [
            ("runner", "c", "/a", "/b", "RUNNER_DIALECT must be one of b, standard, not 'c'"),
            ("archive", "a", "/a", "/b", "ARCHIVE_DIALECT"),
            ("runner", "B", "/a", "/b", "RUNNER_DIALECT"),
            ("runner", "b", "", "", "RUNNER_SHARED_DIR"),
            ("runner", "b", "a", "/b", "RUNNER_SHARED_DIR"),
            ("segmentation", "b", "/a", "b", "SEGMENTATION_REMOTE_DIR"),
            ("segmentation", "b", "/a", "/b/../c", "SEGMENTATION_REMOTE_DIR"),
        ],
    )
    def test_what_cannot_work_is_named(self, settings, kind, dialect, shared, remote, named):
        settings.SERVICE_DIALECTS = settings.SERVICE_DIALECTS | {kind: dialect}
        settings.SERVICE_SHARED_DIRS = settings.SERVICE_SHARED_DIRS | {kind: shared}
        settings.SERVICE_REMOTE_DIRS = settings.SERVICE_REMOTE_DIRS | {kind: remote}
        with pytest.raises(ImproperlyConfigured, match=named):
            check_dialects()

    def test_so_is_an_address_that_no_service_can_have(self, settings):
        settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": ["dns+http://runner:9000/a", "http://runner/%2e"]}
        with pytest.raises(ImproperlyConfigured, match="RUNNER_URLS: 'http://runner/%2e': Its path"):
            check_urls()

    def test_what_can_work_is_let_pass(self, settings):
        settings.SERVICE_DIALECTS = {"segmentation": "a", "runner": "b", "archive": "b"}
        settings.SERVICE_SHARED_DIRS = settings.SERVICE_REMOTE_DIRS = {"runner": "/srv/exchange"}
        check_dialects()

    def test_a_run_is_not_repeated_while_it_is_handed_over(self, settings):
        settings.RUNNER_REPEAT_AFTER = settings.SERVICE_TIMEOUT
        with pytest.raises(ImproperlyConfigured, match="RUNNER_REPEAT_AFTER"):
            check_dialects()

    def test_no_process_starts_with_a_name_that_nobody_knows(self, settings, tmp_path):
        env = os.environ | {
            "DATA_DIR": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "gateway.settings.embedded",
            "RUNNER_DIALECT": "klingon",
        }
        done = subprocess.run(
            [sys.executable, "-c", "import django; django.setup()"],
            env=env,
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "RUNNER_DIALECT must be one of b, standard, not 'klingon'" in done.stderr
