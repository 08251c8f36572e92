"""Production starts with everything given, or not at all."""

import os
import runpy
import subprocess
import sys

import pytest
from celery import current_app
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

pytestmark = [pytest.mark.security, pytest.mark.security_sessions]

GOOD = {
    "SECRET_KEY": "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5zA7bC9dE1fG3hI5jK7",
    "ALLOWED_HOSTS": "gateway.example,.example.org",
    "DATABASE_URL": "postgres://gateway:secret@db.example:5432/gateway?sslmode=require",
    "REDIS_URL": "redis://redis.example:6379/0",
    "CALLBACK_BASE_URL": "https://gateway.example",
    "EMAIL_URL": "smtp+tls://gateway:a%2Fsecret@mail.example:587",
    "SEGMENTATION_URLS": "http://segmentation.example",
    "RUNNER_URLS": "http://runner.example,http://runner-2.example",
    "ARCHIVE_URLS": "http://archive.example",
    "FILES_DIR": "/srv/files",
}


@pytest.fixture
def start(monkeypatch):
    """Return what reads the production settings out of an environment that is GOOD but for the changes."""

    def read(**changes):
        for name, value in {**GOOD, **changes}.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        monkeypatch.delitem(sys.modules, "gateway.settings.base", raising=False)
        return runpy.run_module("gateway.settings.production")

    return read


@pytest.mark.parametrize("name", GOOD)
def test_it_does_not_start_without_a_value(start, name):
    with pytest.raises(ImproperlyConfigured, match=name):
        start(**{name: None})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("SECRET_KEY", GOOD["SECRET_KEY"][:49]),
        ("SECRET_KEY", "x" * 100),
        ("SECRET_KEY", "django-insecure-" + GOOD["SECRET_KEY"]),
        ("SECRET_KEY_FALLBACKS", GOOD["SECRET_KEY"] + ",weak"),
        ("ALLOWED_HOSTS", ""),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "gateway.example,*"),
        ("DATABASE_URL", "sqlite:////tmp/gateway.sqlite3"),
        ("RUNNER_URLS", ""),
        ("EMAIL_URL", ""),
        ("EMAIL_URL", "mail.example"),
        ("EMAIL_URL", "smtp://"),
        ("EMAIL_URL", "dummymail://"),
        ("EMAIL_URL", "http://mail.example"),
        ("PUBLIC_URL", "gateway.example"),
        ("NUM_PROXIES", "-1"),
    ],
)
def test_it_does_not_start_with_a_weak_value(start, name, value):
    with pytest.raises(ImproperlyConfigured, match=name):
        start(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_BODY_BYTES", "1MB"), ("NUM_PROXIES", "one"), ("SERVICE_TIMEOUT", "soon"), ("DATABASE_POOL_SIZE", "")],
)
def test_it_does_not_start_with_a_malformed_value(start, name, value):
    with pytest.raises(ValueError, match=r"could not convert|invalid literal"):
        start(**{name: value})


def test_what_was_given_is_what_is_used(start):
    given = start()
    assert given["DEBUG"] is False
    assert given["DATABASES"]["default"]["OPTIONS"]["sslmode"] == "require"
    assert given["SERVICE_URLS"]["runner"] == ["http://runner.example", "http://runner-2.example"]
    assert given["CSRF_TRUSTED_ORIGINS"] == ["https://gateway.example", "https://*.example.org"]
    assert given["STORAGES"]["default"]["OPTIONS"]["location"] == "/srv/files"


def test_mails_go_where_the_url_says(start):
    given = start(PUBLIC_URL="https://gateway.example/")
    assert given["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    assert (given["EMAIL_HOST"], given["EMAIL_PORT"], given["EMAIL_USE_TLS"]) == ("mail.example", 587, True)
    assert (given["EMAIL_HOST_USER"], given["EMAIL_HOST_PASSWORD"]) == ("gateway", "a/secret")
    assert given["DEFAULT_FROM_EMAIL"] == "ALT_LAS <gateway@gateway.example>"
    assert given["PUBLIC_URL"] == "https://gateway.example"
    assert start(EMAIL_URL="consolemail://")["EMAIL_BACKEND"] == "django.core.mail.backends.console.EmailBackend"


def test_the_deploy_check_finds_nothing():
    environment = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "gateway.settings.production", **GOOD}
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        env=environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "no issues" in done.stdout


def test_beat_sends_only_tasks_that_there_are(settings):
    current_app.loader.import_default_modules()
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= set(current_app.tasks)
