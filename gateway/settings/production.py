"""Production: every secret and address must be given; there is nothing to forget silently."""

from django.core.exceptions import ImproperlyConfigured

from gateway.settings.base import *
from gateway.settings.base import BASE_DIR, LOGGING, env, redis_settings

MIN_SECRET_LENGTH, MIN_DIFFERENT_CHARACTERS = 50, 10
SECRET_KEY = env.str("SECRET_KEY")
# Earlier keys, while a new one takes over: what they signed is still good, nothing new is signed with them.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
for _name, _secret in [("SECRET_KEY", SECRET_KEY), *(("SECRET_KEY_FALLBACKS", _key) for _key in SECRET_KEY_FALLBACKS)]:
    if (
        len(_secret) < MIN_SECRET_LENGTH
        or len(set(_secret)) < MIN_DIFFERENT_CHARACTERS
        or _secret.startswith("django-insecure-")
    ):
        raise ImproperlyConfigured(f"{_name} must be at least 50 random characters")

DEBUG = False
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS")
if not ALLOWED_HOSTS or "*" in ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must name the hosts that this gateway answers to")


def _origin(host: str) -> str:
    """Return the origin of an allowed host; one that begins with a dot stands for all its subdomains."""
    return f"https://*{host}" if host.startswith(".") else f"https://{host}"


CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[_origin(host) for host in ALLOWED_HOSTS])

DATABASES = {"default": env.db("DATABASE_URL")}
if DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
    raise ImproperlyConfigured("DATABASE_URL must name a PostgreSQL database")
DATABASES["default"]["ENGINE"] = "gateway.postgresql"
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
_pool_size = env.int("DATABASE_POOL_SIZE", 10)
if _pool_size:
    # Under ASGI every request may run on a thread of its own; the pool bounds the connections of a process.
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    DATABASES["default"]["OPTIONS"] = {
        **DATABASES["default"].get("OPTIONS", {}),  # what the URL asks for, such as sslmode
        "pool": {"min_size": 1, "max_size": _pool_size, "timeout": 10, "max_idle": 30},
    }
else:
    # A connection of each thread's own: where the threads are few, and stay. Celery would close a pool after each task.
    DATABASES["default"]["CONN_MAX_AGE"] = 60

REDIS_URL = env.str("REDIS_URL")
globals().update(redis_settings(REDIS_URL))
CELERY_BROKER_URL = env.str("BROKER_URL", REDIS_URL)

# Where the runner reaches this gateway.
CALLBACK_BASE_URL = env.str("CALLBACK_BASE_URL")

# A trial without a mail server asks for consolemail:// in so many words: mails, with their tokens, are in the log then.
if not env.str("EMAIL_URL").startswith(("smtp://", "smtp+tls://", "smtp+ssl://", "consolemail://")):
    raise ImproperlyConfigured("EMAIL_URL must begin with smtp://, smtp+tls://, smtp+ssl:// or consolemail://")
_mail = env.email_url("EMAIL_URL")
if not _mail["EMAIL_HOST"] and env.str("EMAIL_URL") != "consolemail://":
    raise ImproperlyConfigured("EMAIL_URL must name the host of a mail server")
globals().update(_mail)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", f"ALT_LAS <gateway@{ALLOWED_HOSTS[0].removeprefix('.')}>")

for _kind, _urls in SERVICE_URLS.items():
    if not _urls:
        raise ImproperlyConfigured(f"{_kind.upper()}_URLS must name at least one instance")

if "S3_BUCKET_NAME" in env:
    _files = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": env.str("S3_BUCKET_NAME"),
            "endpoint_url": env.str("S3_ENDPOINT_URL", None),
            "region_name": env.str("S3_REGION_NAME", None),
            "default_acl": None,
        },
    }
else:
    _files = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": env.str("FILES_DIR"), "allow_overwrite": True, "file_permissions_mode": 0o640},
    }
STORAGES = {"default": _files, "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}
STATIC_ROOT = BASE_DIR / "staticfiles"

LOGGING["handlers"]["console"]["formatter"] = "json"

# TLS ends at the proxy, which sets X-Forwarded-Proto and strips what a client sends of it.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", True)
# Probes and runners inside the network speak plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^health(/|$)", r"^api/v2/callbacks/"]
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
