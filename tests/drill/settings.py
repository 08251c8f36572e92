"""As `make run`, but on PostgreSQL if DATABASE_URL names one."""

from gateway.settings.base import env
from gateway.settings.embedded import *  # noqa: F403 - a layer, as those of gateway.settings

if "DATABASE_URL" in env:
    DATABASES = {"default": env.db("DATABASE_URL")}
