"""What is remembered of a sign-in, as it stands in Redis, and as it is felt."""

import pytest
from django_redis import get_redis_connection

from accounts import sign_in_cache
from accounts.sign_in import sign_in_by_token
from gateway.api.errors import ApiError, ErrorCode

ME, COMMANDS = "/api/v2/me", "/api/v2/commands"


def raw():
    return get_redis_connection("default")


def entry_of(session):
    return raw().get(sign_in_cache._key(session.id))


def is_remembered(session):
    return sign_in_cache.read(session.id)[0] is not None


def refused(token, code=ErrorCode.SESSION_ENDED):
    with pytest.raises(ApiError) as caught:
        sign_in_by_token(token)
    assert caught.value.error_code == code
    return True
