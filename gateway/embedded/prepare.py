"""Brings the database up to date and sees to the two users. Prints, as JSON, what a person must be told."""

import json
import os
import secrets
from pathlib import Path

import django
from django.core.management import call_command
from django.db import connection

ADMIN, DEMO = "admin", "demo"


def prepare() -> dict[str, str]:
    """Return, per user, the password if it is new, else where it comes from."""
    from accounts.services.users import user_ensure  # noqa: PLC0415 - the same
    from accounts.sqlite import audit_deletion_refuse  # noqa: PLC0415 - models can be imported after django.setup() only

    call_command("migrate", interactive=False, verbosity=0)
    if connection.vendor == "sqlite":
        audit_deletion_refuse()
    file = Path(os.environ["DATA_DIR"]) / "passwords"
    kept = _read(file)
    told = {}
    for name in (ADMIN, DEMO):
        given = os.environ.get(f"{name.upper()}_PASSWORD")
        password = given or secrets.token_urlsafe(12)
        created = user_ensure(
            username=name, email=f"{name}@example.com", password=password, reset=bool(given), superuser=name == ADMIN
        )
        if given:
            kept.pop(name, None)  # what was made up before is no longer true
            told[name] = f"the password in {name.upper()}_PASSWORD"
        elif created:
            kept[name] = told[name] = password
        else:
            told[name] = f"the password in {file}" if name in kept else "the password that was given before"
    _write(file, kept)
    return told


def _read(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split(" ", 1) for line in lines if " " in line)


def _write(file: Path, passwords: dict[str, str]) -> None:
    file.touch(mode=0o600)
    file.write_text("".join(f"{name} {password}\n" for name, password in passwords.items()))


if __name__ == "__main__":
    django.setup()
    print(json.dumps(prepare()))  # noqa: T201 - the supervisor reads it
