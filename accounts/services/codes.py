"""A code of the second factor is asked for, and used up."""

from django.db import transaction

from accounts import audit
from accounts.audit import Action
from accounts.models import User
from accounts.second_factor import CodeKind, has_second_factor, recovery_codes_left, use_code
from accounts.services import failed_sign_ins
from gateway.api.errors import ApiError, ErrorCode


def code_check(*, user: User, code: str, signing_in: bool = True) -> None:
    """Use a code of the user's second factor up. Nothing is asked of who has none.

    Raises ApiError: second_factor_required without a code, second_factor_invalid if it is wrong or used,
    too_many_attempts: a code is short, so guesses are limited from wherever they come. Only who signs in where they
    were signed in before is let through: there, the limits of the sign-in hold.
    """
    if not has_second_factor(user):
        return
    if not code.strip():
        raise ApiError(ErrorCode.SECOND_FACTOR_REQUIRED)
    failed_sign_ins.code_guess_count(user, spare_known=signing_in)
    with transaction.atomic():
        kind = use_code(user, code)
        if kind is CodeKind.RECOVERY:
            left = recovery_codes_left(user)
            audit.record(
                Action.RECOVERY_CODE_USED, actor=user, target=user, changes={"recovery_codes": (left + 1, left)}
            )
    if kind is None:
        if not signing_in:  # else it goes on record as a failed sign-in
            audit.record(Action.SECOND_FACTOR_FAILED, actor=user, target=user)
        raise ApiError(ErrorCode.SECOND_FACTOR_INVALID)
    failed_sign_ins.code_guesses_forget(user)
