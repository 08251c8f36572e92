"""Tests: SQLite and a private Redis by default; DATABASE_URL and REDIS_URL (set by CI) name real ones."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from gateway.settings.base import *
from gateway.settings.base import env, redis_settings

SECRET_KEY = "only-for-tests-" + "x" * 40
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]

_folder = Path(tempfile.mkdtemp(prefix="gateway-test-"))
_made_by = os.getpid()


@atexit.register
def _remove_folder() -> None:
    if os.getpid() == _made_by:
        shutil.rmtree(_folder, ignore_errors=True)


if "DATABASE_URL" in env:
    DATABASES = {"default": env.db("DATABASE_URL", engine="gateway.postgresql")}
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": _folder / "unused.sqlite3",
            # A file, not memory: the tests of concurrency need several connections.
            "TEST": {"NAME": _folder / "test.sqlite3"},
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
            },
        }
    }

# tests/private_redis.py puts the address of this process's own Redis here before Django starts.
REDIS_URL = env.str("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
globals().update(redis_settings(REDIS_URL))
CELERY_BROKER_URL = REDIS_URL

REST_FRAMEWORK = {**REST_FRAMEWORK, "TEST_REQUEST_DEFAULT_FORMAT": "json"}
CALLBACK_BASE_URL = "http://127.0.0.1:1"
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": _folder / "files", "allow_overwrite": True},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast, and never anywhere else
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
SERVICE_URLS = {"segmentation": [], "runner": [], "archive": []}  # a test that needs services starts them
SERVICE_DIALECTS = dict.fromkeys(SERVICE_URLS, "standard")
SERVICE_TIMEOUT = 20.0  # a machine that is busy must not look like a service that is ill
