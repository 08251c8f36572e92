"""What becomes of a whole system that is stopped, killed or poisoned. Each test starts one of its own."""

import os
import signal

import pytest
import requests  # noqa: TID251 - speaks to the gateway from outside

from tests.running import Gateway, until

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

SUBMISSION = {"segmentation": "/segment", "runner": "/run", "archive": "/archive"}


def test_two_gateways_do_not_disturb_each_other(tmp_path):
    gateway = Gateway(tmp_path / "one").start()
    other = Gateway(tmp_path / "other").start()
    try:
        mine = gateway.submit(gateway.sign_in(), "echo mine")
        session = other.sign_in()
        theirs = other.submit(session, "echo theirs")
        assert other.ended(session, theirs)["status"] == "completed"
        assert gateway.ended(gateway.sign_in(), mine)["status"] == "completed"
        assert session.get(f"{other.url}/api/v2/commands/{mine}", timeout=10).status_code == 404
    finally:
        assert other.stop() == 0
    assert other.children() == []
    assert gateway.children() != []
    assert gateway.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_every_child_and_keeps_the_data(tmp_path, number):
    gateway = Gateway(tmp_path).start()
    session = gateway.sign_in()
    command_id = gateway.submit(session, "echo kept")
    gateway.ended(session, command_id)
    assert gateway.stop(number) == 0
    assert gateway.children() == []
    gateway.start()
    try:
        assert gateway.read(session, f"commands/{command_id}/result")["output"] == "kept"
    finally:
        gateway.stop()


@pytest.mark.parametrize("stage", SUBMISSION)
def test_a_worker_killed_in_any_stage_loses_nothing_and_each_service_works_once(tmp_path, stage):
    gateway = Gateway(tmp_path).start()
    # The stage's service takes its time to answer, and in that time the worker dies.
    fault = {"kind": "slow", "seconds": 3, "path": SUBMISSION[stage]}
    service = gateway.service(stage)
    requests.put(f"{service}/sandbox/faults", json={"faults": [fault]}, timeout=5).raise_for_status()
    session = gateway.sign_in()
    command_id = gateway.submit(session, "echo hello")
    until(lambda: gateway.read(session, f"commands/{command_id}")["stage"] == stage)
    for worker in gateway.children(f"celery -A gateway worker --queues {stage}"):
        os.kill(worker, signal.SIGKILL)
    assert gateway.wait() == 1
    assert f"The gateway stopped: worker-{stage} has ended (exit code -9)" in gateway.output
    assert gateway.children() == []
    gateway.start()
    try:
        assert gateway.ended(session, command_id)["status"] == "completed"
        for name in SUBMISSION:
            works = requests.get(f"{gateway.service(name)}/sandbox/stats", timeout=5).json()["works_by_key"]
            assert works[f"{command_id}:{name}"] == 1
        events = gateway.read(session, f"commands/{command_id}/events")["results"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    finally:
        gateway.stop()


DEADLY = """
import os
from celery.signals import worker_process_init

@worker_process_init.connect
def let_it_die_of_poison(**_kwargs):
    from integrations.clients.segmentation import SegmentationClient
    submit = SegmentationClient.submit

    def swallow(self, request, **kwargs):
        if request.command == "poison":
            os._exit(9)
        return submit(self, request, **kwargs)

    SegmentationClient.submit = swallow
"""


def test_a_command_over_which_three_workers_die_fails_and_stops_no_other(tmp_path):
    """Its text ends the worker's process, in the middle of the work."""
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    gateway = Gateway(tmp_path / "system", PYTHONPATH=paths, SERVICE_TIMEOUT="1").start()
    try:
        session = gateway.sign_in()
        poison = gateway.submit(session, "poison")
        others = [gateway.submit(session, "echo hello") for _ in range(8)]
        assert {gateway.ended(session, command)["status"] for command in others} == {"completed"}
        command = gateway.ended(session, poison)
        assert (command["status"], command["error"]["code"]) == ("failed", "poisoned")
        tries = gateway.read(session, f"commands/{poison}/timeline")["results"]
        assert [(each["outcome"], each["error"]["code"]) for each in tries] == [("abandoned", "worker_lost")] * 3
        assert requests.get(f"{gateway.url}/health/ready", timeout=10).status_code == 200
    finally:
        gateway.stop()


def test_it_starts_in_a_folder_with_an_odd_name_and_leaves_its_mode_alone(tmp_path):
    folder = tmp_path / 'it\'s a "folder"'
    folder.mkdir(mode=0o755)
    gateway = Gateway(folder).start()
    assert gateway.stop() == 0
    assert folder.stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_the_death_of_the_supervisor_leaves_nothing_behind(tmp_path):
    gateway = Gateway(tmp_path).start()
    gateway.stop(signal.SIGKILL)
    until(lambda: not gateway.children())
