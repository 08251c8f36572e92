"""Fields of the admin's forms."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from gateway.admin.theme import TextInput


class RowField(forms.ModelChoiceField[Any]):
    """One row out of some; a number that no row can have is no choice either (SQLite cannot even look for it)."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except OverflowError:
            raise ValidationError(
                self.error_messages["invalid_choice"], code="invalid_choice", params={"value": value}
            ) from None


def reason_field() -> forms.CharField:
    """Return where somebody may say why a row is changed."""
    return forms.CharField(
        label=_("Why"), help_text=_("Goes into the audit record."), max_length=200, required=False, widget=TextInput
    )
