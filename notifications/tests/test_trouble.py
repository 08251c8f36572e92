"""Hostile clients, and a Redis, a database or a reader that fails."""

import asyncio
import json
import socket

import pytest
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.db import OperationalError

from accounts.models.sessions import SessionEnd
from accounts.services.sessions import session_end
from gateway.settings.base import redis_settings
from notifications import consumers, delivery
from notifications.tests.conftest import happen, make_command, wait_until
from tests.own_redis import OwnRedis

pytestmark = pytest.mark.django_db(transaction=True)

LONG = "x" * 1024 * 1024


# --- frames ----------------------------------------------------------------------------------------------------------


NONSENSE = [
    (b"\x00\xff", "malformed_frame", None),
    (b'{"type": "ping"}', "malformed_frame", None),
    ("", "malformed_frame", None),
    ("{", "malformed_frame", None),
    ("[]", "malformed_frame", None),
    ("[" * 50_000, "malformed_frame", None),
    ("[" * 100_000, "frame_too_large", None),
    (json.dumps({"type": "ping", "payload": {"x": LONG}}), "frame_too_large", None),
    ('{"type": "ping", "id": {}}', "invalid_frame", "id"),
    ('{"type": "ping", "id": NaN}', "invalid_frame", "id"),
    ('{"type": 1}', "invalid_frame", "type"),
    ('{"type": "websocket.disconnect"}', "unknown_type", "type"),
    ('{"type": "command.event", "payload": {}}', "unknown_type", "type"),
    ('{"type": "\\ud800", "id": "\\ud800"}', "unknown_type", "type"),
    ('{"type": "\\u0000", "id": "\\u0000"}', "unknown_type", "type"),
    ('{"type": "subscribe"}', "invalid_frame", "payload.rooms"),
    ('{"type": "subscribe", "payload": {"rooms": "user"}}', "invalid_frame", "payload.rooms"),
    ('{"type": "subscribe", "payload": {"rooms": [], "after": []}}', "invalid_frame", "payload.after"),
    ('{"type": "unsubscribe", "payload": {"rooms": [1]}}', "invalid_frame", "payload.rooms"),
    ('{"type": "auth", "payload": {"token": 1}}', "invalid_frame", "payload.token"),
]


def test_a_frame_that_makes_no_sense_gets_an_error_and_the_socket_stays(alice, dial_as):
    client = dial_as(alice)
    for text, code, field in NONSENSE:
        client.line.send(text)
        error = client.expect("error")
        assert error["code"] == code
        assert field is None or error["detail"].startswith(f"{field}: ")
    assert client.ask("ping") == {"type": "pong"}


def test_an_answer_repeats_the_id(dial):
    client = dial()
    for frame_id in (0, -1, 2**70, "", "a", "ı\0\ud800", "x" * 100):
        client.send("ping", frame_id=frame_id)
        assert client.receive() == {"type": "pong", "id": frame_id}


def test_subscribing_to_nothing_is_no_error(alice, dial_as):
    client = dial_as(alice)
    assert client.subscribe() == {"rooms": [], "denied": []}
    assert client.ask("unsubscribe", {"rooms": []})["payload"] == {"rooms": []}


def test_frames_that_come_all_at_once_are_answered_in_order(dial):
    client = dial()
    for number in range(60):
        client.send("ping", frame_id=number)
    assert [client.receive()["id"] for _ in range(60)] == list(range(60))


# --- slow readers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def deaf(server, dial_as, alice):
    """Return a client that has stopped to read, and how it begins again."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024)
    host, port = server.address.split(":")
    line.connect((host, int(port)))
    client = dial_as(alice, sock=line, max_queue=1, close_timeout=0.1)
    command = make_command(alice, events=300, data={"text": "x" * 2000})
    client.send("subscribe", {"rooms": [f"command:{command.id}"]})
    return client


@pytest.fixture
def goodbyes(monkeypatch):
    """Return the codes that sockets are being closed with: they arrive when the client reads again."""
    codes = []
    say_goodbye = consumers.GatewayConsumer._say_goodbye

    async def spy(self, send, code):
        codes.append(code)
        await say_goodbye(self, send, code)

    monkeypatch.setattr(consumers.GatewayConsumer, "_say_goodbye", spy)
    return codes


def test_a_reader_too_slow_to_keep_is_shown_out(deaf, goodbyes, monkeypatch):
    monkeypatch.setattr(consumers, "SEND_SECONDS", 0.3)
    wait_until(lambda: goodbyes)
    assert deaf.close_code() == goodbyes[0] == 4429


def test_a_reader_that_never_reads_again_leaves_nothing_behind(deaf, server, monkeypatch):
    monkeypatch.setattr(consumers, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(consumers, "CLOSE_SECONDS", 0.2)
    wait_until(lambda: server.layer.groups)
    wait_until(lambda: not server.left_over())


def test_who_asks_and_asks_and_does_not_read_is_shown_out(deaf, goodbyes):
    for number in range(2 * delivery.MAX_ANSWERS):
        deaf.send("ping", frame_id=number)
    wait_until(lambda: goodbyes)
    assert deaf.close_code() == goodbyes[0] == 4429


def test_signing_out_does_not_wait_for_a_slow_reader(deaf, server, alice, goodbyes, monkeypatch):
    monkeypatch.setattr(consumers, "CLOSE_SECONDS", 0.2)
    wait_until(lambda: server.layer.groups)
    session_end(session_id=alice.device_sessions.get().id, actor=None, reason=SessionEnd.LOGOUT)
    wait_until(lambda: not server.left_over())
    assert goodbyes == [4401]


# --- what breaks -----------------------------------------------------------------------------------------------------


async def _fail(*args):
    raise OperationalError("the database is gone")


def test_a_delivery_that_breaks_down_closes_the_socket(alice, dial_as, monkeypatch, caplog):
    client = dial_as(alice)
    monkeypatch.setattr(delivery, "read_events", _fail)
    client.subscribe(make_command(alice))
    assert client.close_code() == 1012
    assert "a socket broke down" in caplog.text


def test_a_frame_whose_handling_breaks_down_closes_the_socket(alice, dial_as, monkeypatch):
    client = dial_as(alice)
    monkeypatch.setattr(consumers, "read_last_seqs", _fail)
    client.send("subscribe", {"rooms": []})
    assert client.close_code() == 1012


def test_a_check_that_finds_no_database_is_made_again(alice, dial_as, monkeypatch, caplog):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "read_last_seqs", _fail)
    client = dial_as(alice)
    client.subscribe(make_command(alice))
    assert client.events(1) == [1]
    wait_until(lambda: caplog.text.count("a socket could not be checked") > 1)
    assert client.ask("ping")["type"] == "pong"


def test_a_client_that_vanishes_leaves_nothing_behind(alice, dial_as, server, caplog):
    command = make_command(alice, events=300, data={"text": "x" * 2000})
    clients = [dial_as(alice) for _ in range(5)]
    for client in clients:
        client.subscribe(command)
        client.line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.line.socket.shutdown(socket.SHUT_RDWR)
        happen(command)
    wait_until(lambda: not server.left_over())
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


async def test_a_client_that_vanishes_while_it_signs_in_leaves_nothing_behind():
    """It goes as soon as it has come, and nothing that is sent to it arrives."""
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]

    async def receive():
        return incoming.pop(0) if incoming else await asyncio.Event().wait()

    async def send(message):
        raise ConnectionResetError

    before = asyncio.all_tasks()
    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}
    consumer = consumers.GatewayConsumer()
    await consumer(scope, receive, send)
    assert consumer.channel_layer.channels == {}
    assert all(task in before or "_do_receiving" in repr(task) for task in asyncio.all_tasks())
    await consumer.channel_layer.flush()


async def test_a_message_that_comes_with_the_end_leaves_no_channel_behind():
    """Channels does not cancel a receive() that has just returned, and then the channel layer keeps the channel."""
    consumer = consumers.GatewayConsumer()
    consumer.channel_layer = layer = get_channel_layer()
    consumer.channel_name = await layer.new_channel()
    layer.channels[consumer.channel_name].put_nowait(layer.serialize({"type": "session.ended"}))
    await consumer._close_channel()
    assert layer.channels == {}
    assert layer._shards[0]._subscribed_to == set()
    await layer.flush()


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_redis(tmp_path, settings):
    own = OwnRedis(tmp_path)
    for name, value in redis_settings(own.url).items():
        setattr(settings, name, value)
    yield own
    own.stop()


@pytest.mark.security
@pytest.mark.security_access
async def test_two_gateways_on_one_redis_do_not_hear_each_other(own_redis):
    """Redis publishes to all of its databases, and rooms such as `services` have the same name everywhere."""
    ours, theirs = (
        RedisPubSubChannelLayer(**redis_settings(f"{own_redis.url}/{number}")["CHANNEL_LAYERS"]["default"]["CONFIG"])
        for number in (0, 1)
    )
    name = await ours.new_channel()
    await ours.group_add("services", name)
    await theirs.group_send("services", {"type": "theirs"})
    await ours.group_send("services", {"type": "ours"})
    assert await ours.receive(name) == {"type": "ours"}
    await ours.flush()
    await theirs.flush()


def test_redis_may_be_restarted_and_no_event_is_missed(own_redis, alice, dial_as, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.2)
    command = make_command(alice)
    client = dial_as(alice)
    client.subscribe(command)
    assert client.events(1) == [1]
    own_redis.stop()
    happen(command)
    assert client.events(1) == [2]
    own_redis.start()
    happen(command)
    happen(command)
    assert client.events(2) == [3, 4]
    client.assert_nothing_more()


def test_joining_without_redis_closes_the_socket(own_redis, server, alice, dial_as):
    client = dial_as(alice)
    own_redis.stop()
    # Until the server has noticed, a message to Redis is lost without an error.
    wait_until(lambda: not server.layer._shards[0]._pubsub.connection.is_connected)
    client.send("subscribe", {"rooms": [f"command:{make_command(alice).id}"]})
    assert client.close_code() == 1012
    wait_until(lambda: not server.layer.channels)
    server.layer._shards[0]._subscribed_to.clear()  # channels_redis goes on with what it could not tell Redis to end


def test_coming_without_redis_closes_the_socket(own_redis, server, alice, sign_in, dial):
    own_redis.stop()
    assert dial(token=sign_in(alice)[1].access).close_code() == 1012
    assert dial().close_code() == 1012
    server.layer.channels.clear()  # channels_redis keeps the queue of a channel that it could not open


def test_a_ticket_that_cannot_be_looked_up_closes_the_socket(alice, dial, settings):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.CACHES = redis_settings(f"redis://127.0.0.1:{unused.getsockname()[1]}/0")["CACHES"]
        assert dial("?ticket=x").close_code() == 1012
