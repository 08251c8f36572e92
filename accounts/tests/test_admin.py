"""The admin's door, and users seen and made by an administrator."""

import pytest

from accounts.models import User
from conftest import PASSWORD

pytestmark = pytest.mark.django_db

LOGIN, ADD = "/admin/login/?next=/admin/", "/admin/accounts/user/add/"
NEW = {
    "username": "carol",
    "email": "carol@example.com",
    "usable_password": "true",
    "password1": "a long new password",
    "password2": "a long new password",
}


@pytest.mark.parametrize("login", ["admin", "ADMIN", "admin@example.com", "Admin@Example.com"])
def test_an_administrator_enters_by_user_name_or_address(client, admin, login):
    answer = client.post(LOGIN, {"username": login, "password": PASSWORD}, follow=True)
    assert answer.redirect_chain == [("/admin/", 302)]
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("login", "password"), [("alice", PASSWORD), ("admin", "wrong"), ("nobody", PASSWORD), ("admin\0", PASSWORD)]
)
def test_nobody_else_enters(client, admin, alice, login, password):
    answer = client.post(LOGIN, {"username": login, "password": password})
    assert answer.status_code == 200
    assert "errornote" in answer.content.decode()
    assert client.get("/admin/").status_code == 302


def test_a_normal_user_with_a_django_session_is_sent_to_the_login(client, alice):
    client.force_login(alice)
    for path in ("/admin/", "/admin/accounts/user/", ADD, f"/admin/accounts/user/{alice.id}/change/"):
        answer = client.get(path)
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={path}")


def test_an_administrator_adds_a_user_who_can_then_sign_in(admin_client, api):
    answer = admin_client.post(ADD, NEW)
    assert answer.status_code == 302
    assert User.objects.get(username="carol").email == "carol@example.com"
    body = {"login": "carol", "password": NEW["password1"]}
    assert api(None).post("/api/v2/auth/login", body).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"username": "ALICE"},
        {"username": "carol@example.com"},
        {"username": ""},
        {"email": "ALICE@example.com"},
        {"email": "not an address"},
        {"email": ""},
        {"password2": "something else"},
        {"password1": "1234", "password2": "1234"},
    ],
    ids=str,
)
def test_a_user_who_cannot_be_is_refused_with_a_word_about_why(admin_client, alice, change):
    answer = admin_client.post(ADD, {**NEW, **change})
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors
    assert not User.objects.filter(username__startswith="carol").exists()


def test_an_administrator_can_deactivate_a_user_whose_tokens_then_open_nothing(admin_client, alice, api):
    signed_in = api(alice)
    path = f"/admin/accounts/user/{alice.id}/change/"
    form = admin_client.get(path).context["adminform"].form
    values = {name: value for name, value in form.initial.items() if value not in (None, False)}
    answer = admin_client.post(path, {**values, "is_active": ""})
    assert answer.status_code == 302
    assert signed_in.get("/api/v2/me").status_code == 401
