"""The second factor of a user: set up, given new recovery codes, removed. Each is proved with the password."""

from django.db import transaction
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts import audit, second_factor
from accounts.audit import Action
from accounts.models import User
from accounts.models.mail import MailKind
from accounts.powers import powers_of
from accounts.second_factor import Enrolment, State
from accounts.services import failed_sign_ins
from accounts.services.codes import code_check
from accounts.services.mail import mail_send
from accounts.services.proofs import own_account_lock, password_confirm
from gateway.api.errors import ApiError, ErrorCode


def second_factor_begin(*, user: User, password: str) -> Enrolment:
    """Give the user a secret for their app. It counts once they confirm it with a code.

    Raises ValidationError (password), ApiError: second_factor_exists, too_many_attempts.
    """
    password_confirm(user=user, password=password, field="password")
    with transaction.atomic():
        own_account_lock(user, confirmed_in="password")
        if second_factor.has_second_factor(user):
            raise ApiError(ErrorCode.SECOND_FACTOR_EXISTS)
        return second_factor.begin(user)


def second_factor_confirm(*, user: User, code: str) -> list[str]:
    """Let the secret count that the user was given last. Return recovery codes, which are not shown again.

    Raises ValidationError (code), ApiError: second_factor_exists, not_found if none was begun, too_many_attempts.
    """
    state = second_factor.state_of(user)
    if state != State.PENDING:
        raise ApiError(ErrorCode.SECOND_FACTOR_EXISTS if state == State.ON else ErrorCode.NOT_FOUND)
    failed_sign_ins.code_guess_count(user)
    codes = None
    with transaction.atomic():
        own_account_lock(user)
        if second_factor.confirm(user, code):
            codes = second_factor.make_recovery_codes(user)
            _tell(Action.SECOND_FACTOR_ADDED, actor=user, user=user)
    if codes is None:
        audit.record(Action.SECOND_FACTOR_FAILED, actor=user, target=user)
        raise _wrong_code()
    failed_sign_ins.code_guesses_forget(user)
    return codes


def recovery_codes_make(*, user: User, password: str, code: str) -> list[str]:
    """Return new recovery codes, which replace the old ones.

    Raises ValidationError (password, code), ApiError: not_found without a second factor, too_many_attempts.
    """
    _prove(user, password, code)
    with transaction.atomic():
        own_account_lock(user, confirmed_in="password")
        if not second_factor.has_second_factor(user):
            raise ApiError(ErrorCode.NOT_FOUND)
        codes = second_factor.make_recovery_codes(user)
        _tell(Action.RECOVERY_CODES_MADE, actor=user, user=user)
    return codes


def second_factor_remove(*, user: User, password: str, code: str) -> None:
    """Raises ValidationError (password, code), ApiError: not_found without a second factor, too_many_attempts."""
    _prove(user, password, code)
    with transaction.atomic():
        own_account_lock(user, confirmed_in="password")
        if not second_factor.remove(user):
            raise ApiError(ErrorCode.NOT_FOUND)
        _tell(Action.SECOND_FACTOR_REMOVED, actor=user, user=user)


def second_factor_reset(*, actor: User | None, user: User, reason: str = "") -> None:
    """Remove the second factor of a user who has lost it, recovery codes and all.

    Raises ApiError: permission_denied if the user may do something that the actor may not, or is the actor, who proves
    it (second_factor_remove); not_found without a second factor.
    """
    if actor is not None and actor.pk == user.pk:
        raise ApiError(ErrorCode.PERMISSION_DENIED, _("Remove your own second factor on your own page, with a code."))
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
        powers_of(actor).require_over(user)
        if not second_factor.remove(user):
            raise ApiError(ErrorCode.NOT_FOUND)
        _tell(Action.SECOND_FACTOR_REMOVED, actor=actor, user=user, reason=reason)


def _prove(user: User, password: str, code: str) -> None:
    """Make sure that it is the user, who has both factors."""
    password_confirm(user=user, password=password, field="password")
    if not second_factor.has_second_factor(user):
        raise ApiError(ErrorCode.NOT_FOUND)
    try:
        code_check(user=user, code=code, signing_in=False)
    except ApiError as error:
        if error.error_code == ErrorCode.TOO_MANY_ATTEMPTS:
            raise
        raise _wrong_code() from None


def _wrong_code() -> ValidationError:
    return ValidationError({"code": [ErrorDetail(_("The code is wrong or was used before."), code="invalid")]})


def _tell(action: Action, *, actor: User | None, user: User, reason: str = "") -> None:
    audit.record(action, actor=actor, target=user, reason=reason)
    mail_send(MailKind.SECOND_FACTOR_CHANGED, user=user)
