import pytest


@pytest.fixture
def client(api, admin):
    return api(admin)
