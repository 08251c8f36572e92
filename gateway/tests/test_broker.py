"""The broker may go away and come back: no worker ends because of that."""

import pytest
from kombu import Connection, Queue

from tests.own_redis import OwnRedis


@pytest.fixture
def own_redis(tmp_path):
    own = OwnRedis(tmp_path)
    yield own
    own.stop()


def test_a_connection_that_broke_is_put_away_though_messages_were_not_taken_up(own_redis):
    connection = Connection(own_redis.url)
    channel = connection.channel()
    queue = Queue("segmentation", channel=channel)
    queue.declare()
    connection.Producer(channel).publish({}, routing_key="segmentation")
    assert queue.get() is not None  # and not acknowledged
    own_redis.stop()
    channel.connection.client = None  # as celery leaves it when it has noticed
    channel.close()


def test_what_was_not_taken_up_is_given_back_when_a_worker_stops(own_redis):
    with Connection(own_redis.url) as connection:
        channel = connection.channel()
        queue = Queue("segmentation", channel=channel)
        queue.declare()
        connection.Producer(channel).publish({}, routing_key="segmentation")
        assert queue.get() is not None
        assert queue.get() is None
        channel.close()
        assert Queue("segmentation", channel=connection.channel()).get() is not None
