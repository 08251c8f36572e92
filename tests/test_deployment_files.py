"""The files that deploy the gateway. No engine runs them here, so whatever can be checked without one is."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from commands.states import Stage
from gateway.embedded import system

ROOT = Path(settings.BASE_DIR)
BIN = Path(sys.executable).parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
QUEUES = [queue.name for queue in settings.CELERY_TASK_QUEUES]
WORKERS = [f"worker-{queue}" for queue in QUEUES]
GATEWAY = ("migrate", "web", "ws", *WORKERS, "beat")
STAND_INS = ("segmentation", "runner", "archive")
SECRET_NAMES = ("SECRET", "PASSWORD", "AUTH", "TOKEN", "KEY")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
NGINX = (ROOT / "deploy/nginx.conf").read_text()

every_service = pytest.mark.parametrize("name", SERVICES)


def filled_in(value: str) -> str:
    """Put what an operator must give, and the defaults of the rest, in the place of ${...}."""
    given = {"SECRET_KEY": "".join(map(chr, range(97, 123))) * 2, "PUBLIC_HOSTS": "gateway.example.com"}
    value = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: given.get(match[1], "given"), value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def command_of(name: str) -> list[str]:
    if "command" in SERVICES[name]:
        return [filled_in(word) for word in SERVICES[name]["command"]]
    default = re.search(r"^CMD (\[.*?\])", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert default
    words: list[str] = yaml.safe_load(default[1].replace("\\\n", ""))
    return words


def run(*command: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(  # noqa: S603 - our own command line
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_has_nothing_to_say_about_the_dockerfile():
    run(str(BIN / "hadolint"), "Dockerfile")
    assert "hadolint ignore" not in DOCKERFILE


def test_compose_keeps_to_its_schema():
    run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_the_image_runs_without_root():
    last_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.findall(r"^USER (.*)$", last_stage, re.MULTILINE) == ["10001:10001"]


@every_service
def test_a_service_is_watched(name):
    service = SERVICES[name]
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    inherited = name in GATEWAY  # the HEALTHCHECK of the image, unless it is switched off
    assert "healthcheck" in service or inherited


@every_service
def test_a_service_may_do_as_little_as_possible(name):
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    if name not in (*GATEWAY, *STAND_INS):
        assert not service["user"].startswith(("0", "root"))


@every_service
def test_an_image_is_pinned(name):
    image = filled_in(SERVICES[name]["image"])
    assert re.fullmatch(r"[a-z-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", image), image


def test_the_base_images_are_pinned_and_the_same():
    images = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert len(images) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", images.pop())


@pytest.mark.security
@pytest.mark.security_sessions
@every_service
def test_secrets_come_from_outside(name):
    for variable, value in SERVICES[name].get("environment", {}).items():
        secrets = [value] if any(word in variable for word in SECRET_NAMES) else re.findall(r"://\w*:(.*)@", value)
        assert all(re.fullmatch(r"\$\{\w+:\?[^}]+\}", secret) for secret in secrets), variable


def test_the_example_names_all_that_must_be_given_and_gives_no_secret():
    demanded = set(re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text()))
    lines = re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy/env.example").read_text(), re.MULTILINE)
    assert {variable for variable, _ in lines} == demanded
    assert not [variable for variable, value in lines if value and any(word in variable for word in SECRET_NAMES)]


@every_service
def test_only_the_proxy_is_published(name):
    assert ("ports" in SERVICES[name]) == (name == "proxy")
    if name != "proxy":
        assert all(COMPOSE["networks"][network]["internal"] for network in SERVICES[name]["networks"])


def test_the_stand_ins_reach_no_data():
    for name in STAND_INS:
        assert SERVICES[name]["networks"] == ["services"]
        assert SERVICES[name]["labels"] == {"org.alt-las.stand-in": "true"}


def test_whoever_touches_files_shares_them():
    for name in ("web", *WORKERS):
        assert SERVICES[name]["volumes"] == ["files:" + SERVICES[name]["environment"]["FILES_DIR"]]


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_given_the_time_to_finish(name):
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > settings.CELERY_TASK_TIME_LIMIT


def test_every_queue_has_workers_of_its_own():
    """One that waits for a service that hangs must be missed in no other queue."""
    served = {name: re.findall(r"--queues=(\S+)", " ".join(command_of(name))) for name in SERVICES if name in GATEWAY}
    assert {name: queues for name, queues in served.items() if queues} == {
        f"worker-{queue}": [queue] for queue in QUEUES
    }
    assert sorted(system.QUEUES) == sorted(QUEUES)
    assert {str(stage) for stage in Stage} < set(QUEUES)


@pytest.mark.parametrize("name", [*GATEWAY, *STAND_INS])
def test_the_command_names_what_exists(name):
    program, *arguments = command_of(name)
    assert program == "python" or (BIN / program).exists()
    words = [word.removeprefix("--app=").partition(":")[0] for word in arguments]
    modules = [word for word in words if re.fullmatch(r"gateway(\.\w+)*|integrations\.sandbox", word)]
    scripts = [word for word in words if word.endswith(".py")]
    assert modules or scripts
    assert all(find_spec(module) for module in modules)
    assert all((ROOT / script).exists() for script in scripts)


def test_production_starts_with_what_compose_gives():
    given = {variable: filled_in(value) for variable, value in SERVICES["web"]["environment"].items()}
    given["DJANGO_SETTINGS_MODULE"] = "gateway.settings.production"
    env = {"PATH": os.environ["PATH"], **given}
    run(sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING", env=env)


def test_all_that_the_gateway_is_made_of_goes_into_the_image():
    kept_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    apps = {app.partition(".")[0] for app in settings.INSTALLED_APPS} & {path.name for path in ROOT.iterdir()}
    assert {*apps, "gateway", "locale", "manage.py", "requirements.txt"} <= kept_in
    assert set(re.findall(r"deploy/[\w.]+", DOCKERFILE)) <= kept_in


def test_the_proxy_lets_no_larger_body_through_than_the_gateway():
    assert re.findall(r"client_max_body_size (\w+);", NGINX) == ["1m"]
    assert settings.MAX_BODY_BYTES == 1024 * 1024


@pytest.mark.security
@pytest.mark.security_sessions
def test_the_proxy_itself_says_how_the_request_came():
    for header, value in (("X-Forwarded-Proto", "$scheme"), ("X-Forwarded-For", "$remote_addr")):
        assert re.findall(rf"proxy_set_header {header} (.*);", NGINX) == [value]
    for location in re.findall(r"location [^{]*\{([^}]*)\}", NGINX):
        assert "proxy_set_header" not in location  # it would switch off those of the server


@pytest.mark.security
@pytest.mark.security_sessions
def test_the_gateway_believes_the_one_proxy_that_there_is():
    """Only gateway.origin judges who a client is: the servers in front of it must not have decided already."""
    for name in ("web", "ws"):
        assert SERVICES[name]["environment"]["NUM_PROXIES"] == "1"
        assert "FORWARDED_ALLOW_IPS" not in SERVICES[name]["environment"]
    assert command_of("ws")[0] == "uvicorn"
    assert "--no-proxy-headers" in command_of("ws")
    assert command_of("web")[0] == "granian"  # which leaves addresses as they are
