"""What stands in the mails: templates/accounts/mail, in the language of the user."""

from email.utils import parseaddr

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Value
from django.db.models.functions import Lower
from django.template.loader import render_to_string
from django.utils import translation

from accounts.mail_tokens import reset_token, verification_token
from accounts.models import Mail, User
from accounts.models.mail import MailKind

# Where the token of a mail is used: a page of the user interface, and the call that this makes.
_TOKEN_PLACES = {
    MailKind.VERIFY_EMAIL: ("verify-email", "POST /api/v2/auth/email/verify"),
    MailKind.RESET_PASSWORD: ("reset-password", "POST /api/v2/auth/password/reset"),
}


def message_of(mail: Mail) -> EmailMessage | None:
    """Return the mail as it goes out, None if it has become pointless: nobody has that address, it is verified..."""
    user = _addressee(mail)
    if user is None:
        return None
    token = _token(mail, user)
    page, call = _TOKEN_PLACES.get(MailKind(mail.kind), ("", ""))
    context = {
        "user": user,
        "data": mail.data,
        "token": token,
        "call": call,
        # Behind the #, so that no server on the way writes the token into its log.
        "link": f"{settings.PUBLIC_URL}/{page}#token={token}" if settings.PUBLIC_URL and token else "",
        "reset_minutes": settings.PASSWORD_RESET_TIMEOUT // 60,
        "verification_hours": settings.EMAIL_VERIFICATION_TIMEOUT // 3600,
    }
    with translation.override(user.language):
        subject, _newline, body = render_to_string(f"accounts/mail/{mail.kind}.txt", context).strip().partition("\n")
    # To the address as the user wrote it, not as somebody asked for it.
    to = user.email if mail.kind == MailKind.RESET_PASSWORD else mail.address
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    headers = {"Message-ID": f"<{mail.id}@{domain}>", "Auto-Submitted": "auto-generated"}
    return EmailMessage(subject.strip(), body.strip() + "\n", to=[to], headers=headers)


def _addressee(mail: Mail) -> User | None:
    user = mail.user
    if mail.kind == MailKind.RESET_PASSWORD:
        user = User.objects.alias(lower=Lower("email")).filter(lower=Lower(Value(mail.address))).first()
        return user if user is not None and user.is_active and user.has_usable_password() else None
    if mail.kind == MailKind.VERIFY_EMAIL and user is not None:
        return user if user.is_active and user.email == mail.address and user.email_verified_at is None else None
    if mail.kind in (MailKind.ALARM_FIRING, MailKind.ALARM_RESOLVED) and user is not None:
        return user if user.is_active else None
    return user


def _token(mail: Mail, user: User) -> str:
    if mail.kind == MailKind.RESET_PASSWORD:
        return reset_token(user)
    return verification_token(user) if mail.kind == MailKind.VERIFY_EMAIL else ""
