"""The Celery application: `celery -A gateway worker` and `celery -A gateway beat`."""

import os
from typing import Any

from celery import Celery, Task
from celery.signals import task_postrun, task_prerun, worker_ready
from django.db import close_old_connections
from kombu.transport.virtual import QoS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings.production")

app = Celery("gateway")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["gateway"], related_name="health")


_restore_unacked_once = QoS.restore_unacked_once


def _restore_if_connected(self: QoS, stderr: Any = None) -> None:
    """Give messages back that were not taken up, but not by a connection that is gone.

    kombu 5.7 tries that when it puts away a connection that broke, and what it gets is no error of a connection but an
    AttributeError. That ended the worker when Redis was restarted under load. The sweep sends such messages again.
    """
    if getattr(self.channel.connection, "client", None) is not None:
        _restore_unacked_once(self, stderr)


QoS.restore_unacked_once = _restore_if_connected  # type: ignore[method-assign]  # see there


@task_prerun.connect
@task_postrun.connect
def put_away_connections(sender: "Task[..., Any]", **_kwargs: Any) -> None:
    """Close connections to the database that are too old, or broken; the others are kept for the next task."""
    if not sender.request.is_eager:
        close_old_connections()


@worker_ready.connect
def prove_that_it_works(**_kwargs: Any) -> None:
    """Let a new worker finish a task at once, so that the system is ready before the first tick of beat."""
    for queue in app.amqp.queues.consume_from:
        app.send_task("gateway.health.worker_heartbeat", args=[queue], queue=queue)
