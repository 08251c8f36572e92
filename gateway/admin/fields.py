"""Fields of the admin's forms."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError


class RowField(forms.ModelChoiceField[Any]):
    """One row out of some; a number that no row can have is no choice either (SQLite cannot even look for it)."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except OverflowError:
            raise ValidationError(
                self.error_messages["invalid_choice"], code="invalid_choice", params={"value": value}
            ) from None
