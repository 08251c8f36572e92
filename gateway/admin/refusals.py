"""A service says no: the form, or the page, says why."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from rest_framework.exceptions import APIException

REFUSALS = (APIException, ValidationError)


def add_refusal(form: forms.BaseForm, error: Exception, *, fields: Mapping[str, str] | None = None) -> None:
    """Show the error on the form's own fields as far as it names them; `fields` says which is called otherwise."""
    for name, messages in _parts(error).items():
        field = (fields or {}).get(name, name)
        form.add_error(field if field in form.fields else None, messages)


def refusal_text(error: Exception) -> str:
    return " ".join(message for messages in _parts(error).values() for message in messages)


def _parts(error: Exception) -> dict[str, list[str]]:
    """Return the sentences, by field; those about no field under an empty name."""
    if isinstance(error, ValidationError):
        return error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
    detail: Any = getattr(error, "detail", str(error))
    if not isinstance(detail, dict):
        return {"": _sentences(detail)}
    return {name: _sentences(messages) for name, messages in detail.items()}


def _sentences(detail: Any) -> list[str]:
    if isinstance(detail, dict):
        detail = list(detail.values())
    if isinstance(detail, list):
        return [sentence for part in detail for sentence in _sentences(part)]
    return [str(detail)]
