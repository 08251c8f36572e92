import pytest

from accounts.tests.people import signed_in


@pytest.fixture
def client(admin):
    return signed_in(admin)
