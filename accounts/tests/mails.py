"""What stood in the mails, for the tests of what comes by mail."""

import re

from django.core import mail

from accounts.services.mail import mails_send_due

_TOKEN = re.compile(r"^\S{40,}$", re.MULTILINE)


def mailed_token() -> str:
    """Send what is due, and return the token of the only mail that went out with one."""
    mails_send_due()
    [token] = [found[0] for sent in mail.outbox if (found := _TOKEN.search(str(sent.body)))]
    return token
