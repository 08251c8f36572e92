"""Sends one command through a running gateway, and ends with 0 when it is completed.

GATEWAY_PASSWORD=... python deploy/smoke.py https://gateway.example.com demo
"""

# ruff: noqa: INP001 - a script, and no part of a package

import json
import os
import sys
import time
import urllib.request
from typing import Any

SECONDS = 30.0


class Gateway:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.headers = {"Content-Type": "application/json"}

    def ask(self, path: str, body: dict[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data, self.headers)  # noqa: S310 - the operator's own URL
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - the address is given by who runs this
            return json.load(answer)

    def sign_in(self, login: str, password: str) -> None:
        tokens = self.ask("/api/v2/auth/login", {"login": login, "password": password})
        self.headers["Authorization"] = f"Bearer {tokens['access']}"


def main(base_url: str, login: str) -> str | None:
    """Return what went wrong."""
    gateway = Gateway(base_url)
    gateway.sign_in(login, os.environ["GATEWAY_PASSWORD"])
    command = gateway.ask("/api/v2/commands", {"text": "echo hello"})
    deadline = time.monotonic() + SECONDS
    while command["status"] not in ("completed", "failed", "cancelled") and time.monotonic() < deadline:
        time.sleep(0.1)
        command = gateway.ask(f"/api/v2/commands/{command['id']}")
    sys.stdout.write(f"command {command['id']}: {command['status']}\n")
    return None if command["status"] == "completed" else "it should have been completed"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
