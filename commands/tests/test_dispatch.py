"""Messages to the workers are sent by a thread: few of them, none too early, and nobody waits for the broker."""

import os
import threading
import time
from itertools import pairwise

import pytest

from commands import dispatch
from commands.dispatch import GAP, Publisher
from commands.states import Stage


class Sent:
    """What the publisher sent, and when."""

    def __init__(self):
        self.messages = []
        self._changed = threading.Condition()

    def __call__(self, stage):
        with self._changed:
            self.messages.append((stage, time.monotonic()))
            self._changed.notify_all()

    def wait_for(self, number):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= number, timeout=10)
            return self.messages


@pytest.fixture
def sent(monkeypatch):
    sent = Sent()
    monkeypatch.setattr(dispatch, "send", sent)
    return sent


def test_of_many_wakes_the_first_is_sent_at_once_and_the_others_together(sent):
    publisher = Publisher()
    before = time.monotonic()
    publisher.want(Stage.RUNNER)
    sent.wait_for(1)
    for _ in range(1000):
        publisher.want(Stage.RUNNER)
    lasted = time.monotonic() - before
    messages = sent.wait_for(2)
    assert len(messages) <= 2 + lasted / GAP
    assert all(later - earlier >= GAP for (_, earlier), (_, later) in pairwise(messages))


def test_each_stage_is_woken_for_itself(sent):
    publisher = Publisher()
    for stage in Stage:
        publisher.want(stage)
    assert {stage for stage, _at in sent.wait_for(3)} == set(Stage)


def test_later_wakes_are_not_early_and_those_of_about_the_same_time_are_one(sent):
    publisher = Publisher()
    now = time.monotonic()
    for number in range(100):
        publisher.want(Stage.RUNNER, delay=0.1 + number / 10_000)
    publisher.want(Stage.ARCHIVE, delay=0.15)
    messages = sent.wait_for(2)
    [archived] = [at for stage, at in messages if stage is Stage.ARCHIVE] or [sent.wait_for(3)[-1][1]]
    assert archived >= now + 0.15
    runner = [at for stage, at in messages if stage is Stage.RUNNER]
    assert len(runner) <= 2
    assert runner[-1] >= now + 0.1 + 0.0099


def test_nobody_waits_for_a_broker_that_hangs(monkeypatch):
    hangs, goes_on, sent = threading.Event(), threading.Event(), []

    def send(stage):
        hangs.set()
        assert goes_on.wait(10)
        sent.append(stage)

    monkeypatch.setattr(dispatch, "send", send)
    publisher = Publisher()
    publisher.want(Stage.RUNNER)
    assert hangs.wait(10)
    for _ in range(1000):
        publisher.want(Stage.ARCHIVE)  # returns, though the thread is held
    assert sent == []
    goes_on.set()


def test_a_child_process_sends_what_it_wants_itself(monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(dispatch, "send", lambda stage: os.write(writing, f"{os.getpid()} {stage}".encode()))
    monkeypatch.setattr(dispatch, "publisher", Publisher())
    dispatch.wake(Stage.RUNNER)
    assert os.read(reading, 100) == f"{os.getpid()} runner".encode()
    child = os.fork()
    if child == 0:
        dispatch.wake(Stage.ARCHIVE)
        time.sleep(10)  # until it is ended: only a thread of its own can send
        os._exit(0)
    try:
        assert os.read(reading, 100) == f"{child} archive".encode()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_broker_that_is_away_is_no_error_of_whoever_sends(monkeypatch, caplog):
    def broken(*_args, **_options):
        raise OSError("no route")

    monkeypatch.setattr("commands.dispatch.current_app.send_task", broken)
    dispatch.wake(Stage.RUNNER)
    assert "the sweep will send one" in caplog.text
