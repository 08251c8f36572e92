"""TOTP (RFC 6238) and recovery codes: what is asked of django-otp. Who may do what is for accounts.services to say.

django-otp's own delays after wrong codes are switched off (OTP_*_THROTTLE_FACTOR): they grow without end, so that
somebody with a password could lock its owner out. accounts.services.failed_sign_ins limits guesses.
"""

import re
from base64 import b32encode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from secrets import token_bytes

import segno
from django.utils import timezone
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User
from gateway.batches import delete_in_batches

RECOVERY_CODES = 10
PENDING_FOR = timedelta(minutes=15)
_RECOVERY_BYTES = 15  # 120 bits in 24 characters: too many to try, so a plain hash keeps them safe (ASVS 6.5.2)


class State(StrEnum):
    NONE = "none"
    PENDING = "pending"
    ON = "on"


class CodeKind(StrEnum):
    TOTP = "totp"
    RECOVERY = "recovery"


@dataclass(frozen=True)
class Enrolment:
    """What an authenticator app needs; `qr` is a picture of `uri`, as a data URI of SVG."""

    secret: str
    uri: str
    qr: str


def has_second_factor(user: User) -> bool:
    """Return whether the user has a second factor that was confirmed."""
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def state_of(user: User) -> State:
    if has_second_factor(user):
        return State.ON
    return State.PENDING if pending_device(user) else State.NONE


def recovery_codes_left(user: User) -> int:
    return int(StaticToken.objects.filter(device__user=user, device__confirmed=True).count())


def pending_device(user: User) -> TOTPDevice | None:
    since = timezone.now() - PENDING_FOR
    return TOTPDevice.objects.filter(user=user, confirmed=False, created_at__gt=since).order_by("-pk").first()


def old_pending_delete(*, batch: int = 1000) -> int:
    """Delete secrets that were not confirmed in time. Return how many."""
    before = timezone.now() - PENDING_FOR - timedelta(hours=1)  # not while one is being confirmed
    return delete_in_batches(TOTPDevice.objects.filter(confirmed=False, created_at__lt=before), batch=batch)


def begin(user: User) -> Enrolment:
    """Make a secret that counts for nothing until it is confirmed. An earlier one that was not is dropped."""
    TOTPDevice.objects.filter(user=user, confirmed=False).delete()
    device = TOTPDevice.objects.create(user=user, name="app", confirmed=False)
    picture = segno.make(device.config_url, error="m", micro=False).svg_data_uri(scale=4)
    return Enrolment(b32encode(device.bin_key).decode(), device.config_url, picture)


def confirm(user: User, code: str) -> bool:
    """Let the secret count, if the code is of it. That code is used up."""
    device = pending_device(user)
    if device is None or not re.fullmatch(r"[0-9]{6}", _bare(code)):
        return False
    if not device.verify_token(_bare(code)):
        return False
    device.confirmed = True
    device.save(update_fields=["confirmed"])
    return True


def use_code(user: User, code: str) -> CodeKind | None:
    """Use a code up, and return of which kind it was; None if it is wrong or used.

    Call it in a transaction: with one code twice at the same moment, one comes first.
    """
    typed = _bare(code)
    devices = list(TOTPDevice.objects.select_for_update().filter(user=user, confirmed=True))
    if re.fullmatch(r"[0-9]{6}", typed):  # Python would read other digits and blanks as a number too
        return CodeKind.TOTP if any(device.verify_token(typed) for device in devices) else None
    tokens = StaticToken.objects.filter(device__user=user, device__confirmed=True, token=_hashed(typed))
    return CodeKind.RECOVERY if devices and tokens.delete()[0] else None


def make_recovery_codes(user: User) -> list[str]:
    """Return new recovery codes, which replace the old ones. Only their hashes are kept."""
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="recovery codes")
    codes = [b32encode(token_bytes(_RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=_hashed(code)) for code in codes)
    return ["-".join(re.findall("....", code)) for code in codes]


def remove(user: User) -> bool:
    """Remove whatever there is. Return whether there was a second factor that counted."""
    was_on = has_second_factor(user)
    for device in (*TOTPDevice.objects.filter(user=user), *StaticDevice.objects.filter(user=user)):
        device.delete()
    return was_on


def _bare(code: str) -> str:
    """Return a code without what people put between its groups."""
    return re.sub(r"[\s-]", "", code).lower()


def _hashed(recovery_code: str) -> str:
    """Return 96 bits of the hash: what StaticToken has room for."""
    return urlsafe_b64encode(sha256(recovery_code.encode("utf-8", "replace")).digest()[:12]).decode()
