"""What stands in mails: a text of each kind for every user, in their language."""

import pytest
from django.conf import settings as django_settings

from accounts.mail_texts import message_of
from accounts.mail_tokens import user_of_reset_token, user_of_verification_token
from accounts.models import User
from accounts.models.mail import MailKind
from accounts.services.mail import mail_send

pytestmark = pytest.mark.django_db

KINDS = list(MailKind)


@pytest.mark.parametrize("language", [code for code, _name in django_settings.LANGUAGES])
@pytest.mark.parametrize("public_url", ["", "https://gateway.example"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_text_for_every_user(alice, kind, language, public_url, settings):
    settings.PUBLIC_URL = public_url
    User.objects.filter(pk=alice.pk).update(language=language)
    alice.refresh_from_db()
    data = {"device": "O'Brien <phone>", "address": "192.0.2.1"}
    message = message_of(mail_send(kind, user=alice, data=data))
    assert (message.to, "\n" in message.subject, bool(message.subject)) == ([alice.email], False, True)
    assert "{" not in message.body + message.subject
    assert "\n\n\n" not in message.body
    assert "&" not in message.body  # plain text: nothing is escaped
    assert ("#token=" in message.body) == bool(public_url and kind in (MailKind.VERIFY_EMAIL, MailKind.RESET_PASSWORD))
    if kind == MailKind.SESSION_STOLEN:
        assert "O'Brien <phone>" in message.body


def test_a_link_leads_to_the_user_interface(alice, settings):
    settings.PUBLIC_URL = "https://gateway.example"
    for kind, page, reader in (
        (MailKind.VERIFY_EMAIL, "verify-email", user_of_verification_token),
        (MailKind.RESET_PASSWORD, "reset-password", user_of_reset_token),
    ):
        body = message_of(mail_send(kind, user=alice)).body
        [link] = [line for line in body.splitlines() if line.startswith("https://")]
        address, token = link.split("#token=")
        assert address == f"https://gateway.example/{page}"
        assert reader(token) == alice


def test_without_one_the_mail_says_where_the_token_goes(alice):
    for kind, call in ((MailKind.VERIFY_EMAIL, "auth/email/verify"), (MailKind.RESET_PASSWORD, "auth/password/reset")):
        assert f"POST /api/v2/{call}" in message_of(mail_send(kind, user=alice)).body
