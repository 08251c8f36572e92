import pytest

from accounts.tests.second_factors import add_second_factor
from conftest import PASSWORD

LOGIN = "/api/v2/auth/login"
HERE = "198.51.100.7"


@pytest.fixture
def sign_in(api):
    def post(login="alice", *, password=PASSWORD, at=HERE, **code):
        return api(None).post(LOGIN, {"login": login, "password": password, **code}, REMOTE_ADDR=at)

    return post


@pytest.fixture
def signed_in(api, alice):
    """Alice's client."""
    return api(alice)


@pytest.fixture
def codes(signed_in, alice):
    """Alice, who is signed in, has a second factor: her recovery codes."""
    return add_second_factor(alice)
