"""What opens the door to `me`, and everything that must not."""

from base64 import urlsafe_b64encode
from datetime import timedelta
from uuid import UUID

import jwt
import pytest
from django.conf import settings
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import DeviceSession
from accounts.services.sessions import session_start
from accounts.sign_in import sign_in_by_token
from accounts.tokens import read_refresh_token
from conftest import PASSWORD
from gateway.api.errors import ApiError, ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_sessions]

ME, LOGOUT, REFRESH = "/api/v2/me", "/api/v2/auth/logout", "/api/v2/auth/refresh"


@pytest.fixture
def signed_in(alice):
    return session_start(login="alice", password=PASSWORD)


def get_me(api, header):
    return api(None).get(ME, HTTP_AUTHORIZATION=header)


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def signed(claims, key=None, algorithm="HS256"):
    return jwt.encode(claims, settings.SECRET_KEY if key is None else key, algorithm=algorithm)


def test_me_is_who_the_token_speaks_for(api, alice, bob):
    for person in (alice, bob):
        body = api(person).get(ME).json()
        assert (body["id"], body["username"], body["email"]) == (str(person.id), person.username, person.email)
        assert "password" not in body


def test_without_a_token_one_is_asked_to_sign_in(api, db):
    problem_of(api(None).get(ME), ErrorCode.NOT_AUTHENTICATED)
    problem_of(get_me(api, ""), ErrorCode.NOT_AUTHENTICATED)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_written_in_any_letter_case(api, signed_in, scheme):
    assert get_me(api, f"{scheme} {signed_in[1].access}").status_code == 200


@pytest.mark.parametrize(
    "shape", ["{}", "Bearer", "Bearer  ", "Token {}", "Basic {}", "Bearer {} {}", "Bearer{}", ", Bearer {}"]
)
def test_a_header_of_another_shape_is_refused(api, signed_in, shape):
    problem_of(get_me(api, shape.replace("{}", signed_in[1].access)), ErrorCode.TOKEN_INVALID)


@pytest.mark.parametrize(
    "garbage",
    [
        "x",
        "a.b.c",
        "..",
        "e30.e30.e30",
        "é.ü.ı".encode().decode("latin-1"),
        "\x7f",
        "A" * 10_000,
        "W1tb" * 2000 + ".e30.e30",
    ],
)
def test_garbage_is_refused(api, db, garbage):
    problem_of(get_me(api, f"Bearer {garbage}"), ErrorCode.TOKEN_INVALID)


def test_a_token_that_was_tampered_with_is_refused(api, signed_in, bob):
    head, body, signature = signed_in[1].access.split(".")
    forged = signed({**claims_of(signed_in[1].access), "sub": str(bob.id)}, key="x" * 64).split(".")[1]
    for parts in ((head, forged, signature), (head, body, signature[::-1]), (head, body, "")):
        problem_of(get_me(api, f"Bearer {'.'.join(parts)}"), ErrorCode.TOKEN_INVALID)


def test_a_token_without_a_signature_or_of_another_signer_is_refused(api, signed_in):
    claims = claims_of(signed_in[1].access)
    assert get_me(api, f"Bearer {signed(claims)}").status_code == 200
    foreign = (
        signed(claims, key="", algorithm="none"),
        signed(claims, key="another key of sufficient length, for sure " * 2),
        signed(claims, algorithm="HS384"),
    )
    for token in foreign:
        problem_of(get_me(api, f"Bearer {token}"), ErrorCode.TOKEN_INVALID)


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "kid"])
def test_a_token_does_not_say_itself_by_which_key_it_is_to_be_read(api, signed_in, name):
    own = "a key of the attacker, which is long enough"
    jwk = {"kty": "oct", "alg": "HS256", "k": urlsafe_b64encode(own.encode()).decode().rstrip("=")}
    told = {"jwk": jwk, "x5c": [jwk["k"]], "kid": "../../../dev/null"}.get(name, "https://attacker.example/keys")
    token = jwt.encode(claims_of(signed_in[1].access), own, algorithm="HS256", headers={name: told})
    problem_of(get_me(api, f"Bearer {token}"), ErrorCode.TOKEN_INVALID)


def test_a_token_is_good_for_nothing_before_its_time(api, signed_in):
    claims, now = claims_of(signed_in[1].access), int(timezone.now().timestamp())
    for name in ("nbf", "iat"):
        problem_of(get_me(api, f"Bearer {signed({**claims, name: now + 60})}"), ErrorCode.TOKEN_INVALID)
    assert get_me(api, f"Bearer {signed({**claims, 'nbf': now - 60})}").status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"sid": None},
        {"sid": "x"},
        {"sid": 7},
        {"sid": []},
        {"sub": None},
        {"sub": "x"},
        {"exp": 10**18},
        {"exp": None},
        {"exp": "x"},
        {"jti": None},
        {"token_type": None},
    ],
    ids=str,
)
def test_a_token_of_ours_that_lacks_what_it_needs_is_refused(api, signed_in, change):
    claims = {**claims_of(signed_in[1].access), **change}
    token = signed({name: value for name, value in claims.items() if value is not None})
    problem_of(get_me(api, f"Bearer {token}"), ErrorCode.TOKEN_INVALID)


@pytest.mark.parametrize("remembered", [False, True])
def test_a_token_that_names_another_user_than_its_session_is_refused(api, signed_in, bob, remembered):
    """Only we could have signed it; but then something is wrong, and nobody is let in as anybody."""
    token = signed({**claims_of(signed_in[1].access), "sub": str(bob.id)})
    if remembered:
        assert get_me(api, f"Bearer {signed_in[1].access}").status_code == 200
    problem_of(get_me(api, f"Bearer {token}"), ErrorCode.TOKEN_INVALID)


def test_nor_does_it_refresh_anything(api, signed_in, bob):
    token = signed({**claims_of(signed_in[1].refresh), "sub": str(bob.id)})
    problem_of(api(None).post(REFRESH, {"refresh": token}), ErrorCode.SESSION_ENDED)
    assert api(None).post(REFRESH, {"refresh": signed_in[1].refresh}).status_code == 200


def test_a_token_that_was_good_is_refused_once_it_has_expired(api, signed_in, monkeypatch):
    """It is remembered that its signature was good, and not that it was in time."""
    header = f"Bearer {signed_in[1].access}"
    assert get_me(api, header).status_code == 200
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + settings.SIMPLE_JWT["ACCESS_TOKEN_LIFETIME"])
    problem_of(get_me(api, header), ErrorCode.TOKEN_EXPIRED)


@pytest.mark.parametrize("text", ["\0", "\ud800", "a.b.\ud800", "x" * 1_000_000, "ı.ı.ı", " ", ""])
def test_text_that_is_no_token_is_refused_at_every_door(text, db):
    """HTTP cannot carry all of it, a frame of a socket can."""
    for read in (sign_in_by_token, read_refresh_token):
        with pytest.raises(ApiError) as caught:
            read(text)
        assert caught.value.error_code == ErrorCode.TOKEN_INVALID


def test_a_token_that_has_expired_says_so(api, signed_in):
    token = AccessToken(signed_in[1].access)
    token.set_exp(lifetime=-timedelta(seconds=1))
    problem_of(get_me(api, f"Bearer {token}"), ErrorCode.TOKEN_EXPIRED)


def test_a_token_of_a_session_that_never_was_is_refused(api, signed_in):
    token = signed({**claims_of(signed_in[1].access), "sid": str(new_id())})
    problem_of(get_me(api, f"Bearer {token}"), ErrorCode.SESSION_ENDED)


def test_a_refresh_token_opens_nothing_and_an_access_token_refreshes_nothing(api, signed_in):
    tokens = signed_in[1]
    problem_of(get_me(api, f"Bearer {tokens.refresh}"), ErrorCode.TOKEN_INVALID)
    problem_of(api(None).post(REFRESH, {"refresh": tokens.access}), ErrorCode.TOKEN_INVALID)


def test_a_session_past_its_end_is_refused(api, signed_in):
    DeviceSession.objects.update(expires_at=timezone.now())
    problem_of(get_me(api, f"Bearer {signed_in[1].access}"), ErrorCode.SESSION_ENDED)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("leave", ["deactivate", "delete"])
def test_a_user_who_has_gone_is_out_at_once(api, alice, leave):
    client = api(alice)
    assert client.get(ME).status_code == 200
    if leave == "delete":
        alice.delete()
    else:
        alice.is_active = False
        alice.save()
    problem_of(client.get(ME), ErrorCode.SESSION_ENDED)


@pytest.mark.django_db(transaction=True)
def test_logout_ends_both_tokens_at_once_and_can_be_done_once(api, alice):
    client = api(None)
    body = client.post("/api/v2/auth/login", {"login": "alice", "password": PASSWORD}).json()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {body['access']}")
    answer = client.post(LOGOUT)
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(client.get(ME), ErrorCode.SESSION_ENDED)
    problem_of(client.post(LOGOUT), ErrorCode.SESSION_ENDED)
    problem_of(client.post(REFRESH, {"refresh": body["refresh"]}), ErrorCode.SESSION_ENDED)


def test_logout_leaves_other_devices_and_other_people_alone(api, alice, bob):
    phone, laptop, other = api(alice), api(alice), api(bob)
    assert phone.post(LOGOUT).status_code == 204
    assert (laptop.get(ME).status_code, other.get(ME).status_code) == (200, 200)


def test_the_session_in_the_token_is_the_one_that_was_named(signed_in):
    session, tokens = signed_in
    assert UUID(claims_of(tokens.access)["sid"]) == session.id
