import pytest

from accounts.services.sessions import session_start
from conftest import PASSWORD


@pytest.fixture
def signed_in(alice):
    return session_start(login="alice", password=PASSWORD)
