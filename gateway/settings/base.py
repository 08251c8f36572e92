"""What every way to run the gateway shares. Values come from the environment and fail loudly if malformed."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_stubs_ext
import environ
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _
from kombu import Exchange, Queue
from pythonjsonlogger.core import RESERVED_ATTRS

django_stubs_ext.monkeypatch()
env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent.parent
VERSION = "0.1.0"

# --- Django ---------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",  # the theme of the admin; its site is ours (accounts.admin_site)
    "unfold.contrib.filters",
    "gateway.admin.apps.GatewayAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "gateway.api",
    "accounts",
    "integrations",
    "files",
    "commands",
    "notifications",
]

MIDDLEWARE = [
    "gateway.request_id.RequestIdMiddleware",
    "gateway.origin.OriginMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "commands.api.fast_lane.FastLaneMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "gateway.urls"
WSGI_APPLICATION = "gateway.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "gateway" / "admin" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.LoginBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {"NAME": "accounts.password_words.OwnWordsValidator"},
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("tr", _("Turkish"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "gateway" / "admin" / "static"]
# How many proxies in front of the gateway append to X-Forwarded-For; with 0 the header is not believed.
NUM_PROXIES = env.int("NUM_PROXIES", 0)
if NUM_PROXIES < 0:
    raise ImproperlyConfigured("NUM_PROXIES must not be negative")
APPEND_SLASH = False  # the API's paths have no trailing slash; the admin redirects by itself

# A request body larger than this is refused while it arrives (gateway.api.body_limit).
MAX_BODY_BYTES = env.int("MAX_BODY_BYTES", 1024 * 1024)

# --- Admin pages ----------------------------------------------------------------------------------------------------

LOGIN_REDIRECT_URL = "admin:index"
SESSION_COOKIE_AGE = 12 * 3600  # seconds: of a sign-in to the admin pages, however busy
UNFOLD = {
    "SITE_TITLE": "ALT_LAS gateway",
    "SITE_HEADER": "ALT_LAS gateway",
    "SITE_SYMBOL": "hub",
    "SITE_URL": "/api-docs",
    "SHOW_LANGUAGES": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_HISTORY": False,  # the audit record tells it, and more
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "gateway.admin.navigation.icon"}],
    "SIDEBAR": {"navigation": "gateway.admin.navigation.navigation"},
    "ACCOUNT": {"navigation": "gateway.admin.navigation.own_account"},
    "STYLES": ["gateway.admin.navigation.stylesheet"],
}

# --- API ------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.SessionTokenAuthentication"],
    # A view that states no permission refuses everybody.
    "DEFAULT_PERMISSION_CLASSES": ["gateway.api.permissions.DenyAll"],
    "DEFAULT_PARSER_CLASSES": ["gateway.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "gateway.api.pagination.KeysetPagination",
    "DEFAULT_SCHEMA_CLASS": "gateway.api.schema.AutoSchema",
    "EXCEPTION_HANDLER": "gateway.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}

SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=env.int("ACCESS_TOKEN_MINUTES", 5)),
    # Who does not come back for so long has to sign in again.
    "REFRESH_TOKEN_LIFETIME": timedelta(days=env.int("REFRESH_TOKEN_DAYS", 30)),
    "USER_ID_CLAIM": "sub",
    "UPDATE_LAST_LOGIN": False,  # accounts.services.session_start does
}

# The longest that a sign-in lasts, however busy.
SESSION_MAX_DAYS = env.int("SESSION_MAX_DAYS", 90)
# Whether people can make accounts for themselves, and can do nothing before they have verified their address.
REGISTRATION_OPEN = env.bool("REGISTRATION_OPEN", True)
EMAIL_VERIFICATION_REQUIRED = env.bool("EMAIL_VERIFICATION_REQUIRED", False)
PASSWORD_RESET_TIMEOUT = 3600  # seconds, as is the next
EMAIL_VERIFICATION_TIMEOUT = 3 * 24 * 3600
OTP_TOTP_ISSUER = "ALT_LAS"
# accounts.services.failed_sign_ins limits guesses; django-otp's own delays would have no end.
OTP_TOTP_THROTTLE_FACTOR = OTP_STATIC_THROTTLE_FACTOR = 0
OTP_ADMIN_HIDE_SENSITIVE_DATA = True

# --- Mail -----------------------------------------------------------------------------------------------------------
# Where mails go is said by EMAIL_URL, in the layers above.

DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", "ALT_LAS <gateway@localhost>")
EMAIL_TIMEOUT = 10  # seconds, for each step of talking to the mail server
# Where the user interface is: links in mails lead there. Without it, mails hold the token and name the call.
PUBLIC_URL = env.str("PUBLIC_URL", "").rstrip("/")
if PUBLIC_URL and not PUBLIC_URL.startswith(("https://", "http://")):
    raise ImproperlyConfigured("PUBLIC_URL must begin with https:// or http://")

SPECTACULAR_SETTINGS = {
    "TITLE": "ALT_LAS gateway",
    "DESCRIPTION": "Takes a person's command through segmentation, runner and archive, and tells what happens.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "gateway.api.schema.add_problem_responses",
    ],
    "SCHEMA_PATH_PREFIX": r"/api/v2",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "CommandStatus": "commands.states.Status",
        "CommandStage": "commands.states.Stage",
        "CommandMode": "commands.models.Mode",
        "CommandPriority": "commands.models.Priority",
        "FileKind": "files.models.Kind",
        "AlarmState": "integrations.alarms.models.AlarmState",
    },
}

# --- Redis: cache, live news, broker --------------------------------------------------------------------------------


def redis_settings(url: str) -> dict[str, object]:
    """Return the settings that follow from the address of a Redis."""
    database = urlsplit(url).path.strip("/")
    return {
        "CACHES": {
            "default": {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": url,
                # What is cached can be missed: a Redis that is down must not fail a request.
                "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 2, "SOCKET_TIMEOUT": 2, "IGNORE_EXCEPTIONS": True},
            }
        },
        "CHANNEL_LAYERS": {
            # Fast, but at most once: what must not be lost is numbered in the database and read again from there.
            "default": {
                "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
                "CONFIG": {
                    # A Redis that hangs must not hold up whoever has news.
                    "hosts": [{"address": url, "socket_connect_timeout": 2, "socket_timeout": 5}],
                    # Redis publishes to all of its databases: two gateways on one Redis must not hear each other.
                    "prefix": "gateway" if database in ("", "0") else f"gateway-{database}",
                },
            }
        },
    }


DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True

# --- Celery ---------------------------------------------------------------------------------------------------------
# The database says what is to be done; a message only wakes a worker up. Therefore messages are acknowledged early:
# one that is lost is made up for by the sweep, and the deaths over a command are counted: none is redelivered forever.

CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 5000  # a message may find nothing to do
# Not to connect anew for each task: gateway.celery puts away what is too old or broken, as Django does for requests.
CELERY_DB_REUSE_MAX = CELERY_WORKER_MAX_TASKS_PER_CHILD
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    # One more try at once, for a connection that broke while it was idle; more would hold up a request.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
}
CELERY_TASK_PUBLISH_RETRY = False  # the sweep makes up for what could not be sent
CELERY_TASK_SOFT_TIME_LIMIT = 150
CELERY_TASK_TIME_LIMIT = 180
CELERY_TIMEZONE = "UTC"
# A queue and workers for each stage of a command, so that a service that hangs holds up no other; and one for the rest.
# The arguments are for RabbitMQ; to delay messages of such queues it needs an exchange of type topic. On Redis, a
# message to a direct exchange goes by the queue's name alone. To any other it goes by bindings that are kept in Redis,
# and once that was emptied, every message is dropped without a word until the workers are started anew.
_exchange = "topic" if env.str("BROKER_URL", "").startswith(("amqp", "pyamqp")) else "direct"
CELERY_TASK_QUEUES = [
    Queue(name, Exchange("gateway", type=_exchange), routing_key=name, queue_arguments={"x-queue-type": "quorum"})
    for name in ("segmentation", "runner", "archive", "control")
]
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_CREATE_MISSING_QUEUES = False  # a worker for a queue that there is not must not start
CELERY_BEAT_SCHEDULE: dict[str, Any] = {
    "wake-stages-that-have-work": {"task": "commands.tasks.sweep", "schedule": 1.0, "options": {"expires": 5}},
    "broadcast-what-was-not": {"task": "commands.tasks.rebroadcast", "schedule": 5.0, "options": {"expires": 10}},
    "count-what-has-ended": {"task": "commands.tasks.roll_up", "schedule": 60.0, "options": {"expires": 60}},
    "check-services": {"task": "integrations.tasks.check_services", "schedule": 5.0, "options": {"expires": 5}},
    "evaluate-alarms": {"task": "integrations.tasks.evaluate_alarms", "schedule": 15.0, "options": {"expires": 15}},
    "delete-what-is-old": {"task": "commands.tasks.delete_old", "schedule": 60.0, "options": {"expires": 60}},
    "remove-bytes-without-a-row": {
        "task": "files.tasks.remove_deleted_contents",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "send-mails-that-are-due": {"task": "accounts.tasks.mails_send", "schedule": 10.0, "options": {"expires": 10}},
}
for _queue in CELERY_TASK_QUEUES:
    CELERY_BEAT_SCHEDULE[f"prove-that-a-worker-of-{_queue.name}-works"] = {
        "task": "gateway.health.worker_heartbeat",
        "args": [_queue.name],
        "schedule": 5.0,
        "options": {"queue": _queue.name, "expires": 5},
    }
# What grows is cleaned up, a batch at a time; every so many hours.
for _task, _hours in {
    "accounts.tasks.delete_old_answers": 1,
    "accounts.tasks.delete_old_failures": 1,
    "accounts.tasks.delete_old_pending_second_factors": 1,
    "accounts.tasks.delete_dead_api_keys": 6,
    "accounts.tasks.delete_expired_sessions": 6,
    "accounts.tasks.delete_settled_mails": 6,
    "integrations.tasks.delete_old_alarms": 6,
    "integrations.tasks.delete_old_checks": 1,
    "integrations.tasks.delete_left_services": 1,
    "commands.tasks.keep_months": 1,
}.items():
    CELERY_BEAT_SCHEDULE[_task] = {"task": _task, "schedule": timedelta(hours=_hours), "options": {"expires": 3600}}

# --- Commands -------------------------------------------------------------------------------------------------------

# How many commands a user may have in flight, where no limit of their own or of a role says otherwise; the rest waits.
COMMANDS_IN_FLIGHT = env.int("COMMANDS_IN_FLIGHT", 20)

# --- Backend services -----------------------------------------------------------------------------------------------

SERVICE_URLS = {
    "segmentation": env.list("SEGMENTATION_URLS", default=[]),
    "runner": env.list("RUNNER_URLS", default=[]),
    "archive": env.list("ARCHIVE_URLS", default=[]),
}
# Whether a service may be registered at a private or loopback address. Those of the settings may have any.
SERVICE_PRIVATE_ADDRESSES = env.bool("SERVICE_PRIVATE_ADDRESSES", False)
# How the services of a kind speak: "standard" or another of integrations.clients.dialects.
SERVICE_DIALECTS = {kind: env.str(f"{kind.upper()}_DIALECT", "") or "standard" for kind in SERVICE_URLS}
# The folder that some dialects share with the service: as the gateway sees it, and as the service does.
SERVICE_SHARED_DIRS = {kind: env.str(f"{kind.upper()}_SHARED_DIR", "") for kind in SERVICE_URLS}
SERVICE_REMOTE_DIRS = {
    kind: env.str(f"{kind.upper()}_REMOTE_DIR", "") or SERVICE_SHARED_DIRS[kind] for kind in SERVICE_URLS
}
# Seconds without a result after which a runner that is not known to have accepted a run is given it again.
RUNNER_REPEAT_AFTER = env.float("RUNNER_REPEAT_AFTER", 300.0)
# Seconds for one whole answer of a service, from connecting to the last byte.
SERVICE_TIMEOUT = env.float("SERVICE_TIMEOUT", 10.0)
# Which instance gets work, of those that are well: "round_robin" (by weight) or "least_in_flight".
SERVICE_BALANCING = env.str("SERVICE_BALANCING", "round_robin")
# Calls that an instance has at once, from all processes: with so many it gets no new work.
SERVICE_MAX_IN_FLIGHT = env.int("SERVICE_MAX_IN_FLIGHT", 32)
# Seconds during which a stage whose service fails is tried again before the command fails.
STAGE_RETRY_WINDOW = env.float("STAGE_RETRY_WINDOW", 30.0)
# Seconds that a service may work on one command after it accepted it.
STAGE_TIME_LIMIT = env.float("STAGE_TIME_LIMIT", 3600.0)

# --- Storage and logs -----------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", "INFO")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "gateway.request_id.RequestIdFilter"},
        "secrets": {"()": "gateway.log_secrets.SecretsFilter"},
    },
    "formatters": {
        "text": {"format": "{asctime} {levelname} {name} [{request_id}] {message}", "style": "{"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "reserved_attrs": [*RESERVED_ATTRS, "request"],  # its text is an address, which may hold a token
            "format": "{asctime}{levelname}{name}{request_id}{message}",
            "style": "{",
        },
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "text", "filters": ["request_id", "secrets"]}
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # Two lines for every task, and there are some every second.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        # A traceback for every scanner that makes a host up; the 400 itself is logged anyway.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}

# --- Browser security -----------------------------------------------------------------------------------------------

SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
