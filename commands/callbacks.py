"""The address that a runner calls back: signed, so that only who was given it can use it."""

from uuid import UUID

from django.core.signing import BadSignature, Signer

_signer = Signer(salt="commands.runner-callback")


def callback_token(command_id: UUID) -> str:
    """Return the same token for every try: a service may compare the bodies of a repeated request."""
    return _signer.sign(command_id.hex)


def command_of_token(token: str) -> UUID | None:
    """Return the command that a token was made for, None if this gateway did not make it."""
    try:
        return UUID(hex=_signer.unsign(token))
    except (BadSignature, ValueError):
        return None
