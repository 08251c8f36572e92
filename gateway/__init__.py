"""The Django project of the ALT_LAS gateway."""

from gateway.celery import app as celery_app

__all__ = ["celery_app"]
