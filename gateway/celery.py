"""The Celery application: `celery -A gateway worker` and `celery -A gateway beat`."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings.production")

app = Celery("gateway")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["gateway"], related_name="health")


@worker_ready.connect
def prove_that_it_works(**_kwargs: Any) -> None:
    """Let a new worker finish a task at once, so that the system is ready before the first tick of beat."""
    for queue in app.amqp.queues.consume_from:
        app.send_task("gateway.health.worker_heartbeat", args=[queue], queue=queue)
