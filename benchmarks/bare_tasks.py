"""The limit of the workers: Celery as it comes, without Django, and a task that makes a command's HTTP calls."""

import os
from typing import Any

import redis
import requests  # noqa: TID251 - it is what the gateway is measured beside
from celery import Celery

SECONDS = 10.0  # for an answer

app = Celery("bare", broker=os.environ["REDIS_URL"], fixups=[])
app.conf.update(task_default_queue="bare", task_ignore_result=True)
session = requests.Session()
broker = redis.Redis.from_url(os.environ["REDIS_URL"])


@app.task
def command(text: str, services: dict[str, str], callback_url: str) -> None:
    """Have one command done: the same calls as the gateway's, with the same bodies, and then a count goes up."""
    segmentation, runner, archive = services["segmentation"], services["runner"], services["archive"]
    how = {"mode": "normal", "persona": "technical_expert"}
    alt_file = _ask("POST", f"{segmentation}/segment", {"command": text, **how})["alt_file"]
    alt = _ask("GET", f"{segmentation}/files/alt/{alt_file}")["content"]
    options = {**how, "priority": "normal", "parameters": {}, "callback_url": callback_url}
    run = _ask("POST", f"{runner}/run", {"altFileId": alt_file, "altContent": alt, "options": options})
    task: dict[str, Any] = {}
    while task.get("status") != "completed":
        task = _ask("GET", f"{runner}/tasks/{run['taskId']}")
    last = _ask("GET", f"{runner}/files/last/{task['lastFileId']}")["content"]
    body = {"lastFileId": task["lastFileId"], "lastContent": last, "metadata": {"success_rate": 1.0, "tags": []}}
    atlas_file = _ask("POST", f"{archive}/archive", body)["atlasFileId"]
    _ask("GET", f"{archive}/files/atlas/{atlas_file}")
    broker.incr("bare-tasks-done")


def _ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    answer = session.request(method, url, json=body, timeout=SECONDS)
    answer.raise_for_status()
    return answer.json()
