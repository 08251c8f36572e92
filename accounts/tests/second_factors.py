"""Second factors of users, and what their apps show."""

from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import FailedSignIns, User
from accounts.second_factor import begin, confirm, make_recovery_codes


def code_of(user: User) -> str:
    """Return what the user's app shows; good again, if it was used."""
    device = TOTPDevice.objects.get(user=user)
    TOTPDevice.objects.filter(pk=device.pk).update(last_t=-1, drift=0)
    return f"{totp(device.bin_key):06}"


def wrong_code_of(user: User) -> str:
    """Return a code that the app shows neither now nor soon."""
    device = TOTPDevice.objects.get(user=user)
    good = {totp(device.bin_key, t0=30 * step) for step in range(-4, 5)}
    return f"{next(number for number in range(100) if number not in good):06}"


def add_second_factor(user: User) -> list[str]:
    begin(user)
    assert confirm(user, code_of(user))
    return make_recovery_codes(user)


def no_delay() -> None:
    FailedSignIns.objects.filter(blocked_until__gt=timezone.now()).update(blocked_until=timezone.now())
