"""The address that a service calls back: signed, so that only who was given it can use it.

A token has no end of its own, and is the same for every try: a service may compare the bodies of a repeated request.
It is useless as soon as the stage that it was made for is over.
"""

from uuid import UUID

from django.core.signing import BadSignature, Signer

from commands.states import Stage


def callback_token(command_id: UUID, stage: Stage) -> str:
    return _signer(stage).sign(command_id.hex)


def command_of_token(token: str, stage: Stage) -> UUID | None:
    """Return the command that a token was made for, None if this gateway did not make it for this stage."""
    try:
        return UUID(hex=_signer(stage).unsign(token))
    except (BadSignature, ValueError):
        return None


def _signer(stage: Stage) -> Signer:
    """Every stage has a key of its own; those of SECRET_KEY_FALLBACKS are still good for reading."""
    return Signer(salt=f"commands.{stage}-callback")
