"""The whole system on one machine out of one folder: what `make run` uses, and manage.py by default."""

import secrets

from gateway.settings.base import *
from gateway.settings.base import BASE_DIR, env, redis_settings

DATA_DIR = (BASE_DIR / env.str("DATA_DIR", "var")).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)
PORT = env.int("PORT", 8000)


def _kept_secret(name: str) -> str:
    """Return the secret kept in the data folder, made at the first start; only its owner can read it."""
    path = DATA_DIR / name
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(50))
    return str(path.read_text()).strip()


SECRET_KEY = env.str("SECRET_KEY", "") or _kept_secret("secret_key")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "gateway.sqlite3",
        # As in production: 0 is for a worker process, which does one thing at a time, and keeps its connection.
        "CONN_MAX_AGE": 0 if env.int("DATABASE_POOL_SIZE", 10) else 60,
        # Several processes write: a write transaction takes its lock when it begins, and waits for it.
        # NORMAL is safe against a killed process; a power cut may cost the last moments, but never corrupts.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}

# The supervisor (gateway.embedded) starts a private Redis and leaves its address here for other processes.
_redis_url_file = DATA_DIR / "redis_url"
REDIS_URL = env.str("REDIS_URL", "") or (
    _redis_url_file.read_text().strip() if _redis_url_file.exists() else "redis://127.0.0.1:6379/0"
)
globals().update(redis_settings(REDIS_URL))
CELERY_BROKER_URL = env.str("BROKER_URL", REDIS_URL)

CALLBACK_BASE_URL = env.str("CALLBACK_BASE_URL", f"http://127.0.0.1:{PORT}")

# Services of a developer are on this machine.
SERVICE_PRIVATE_ADDRESSES = env.bool("SERVICE_PRIVATE_ADDRESSES", True)

# Without a mail server, mails are written into the log of the worker.
globals().update(env.email_url("EMAIL_URL", "consolemail://"))

STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": DATA_DIR / "files", "allow_overwrite": True, "file_permissions_mode": 0o600},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True  # no collectstatic step before the first start
WHITENOISE_AUTOREFRESH = False
