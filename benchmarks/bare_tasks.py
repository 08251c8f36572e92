"""The limit of the workers: Celery as it comes, without Django, and a task that does nothing."""

import os

from celery import Celery

app = Celery("bare", broker=os.environ["REDIS_URL"], fixups=[])
app.conf.update(task_default_queue="bare", task_ignore_result=True)


@app.task
def nothing() -> None:
    pass
