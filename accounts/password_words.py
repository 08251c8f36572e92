"""Refuses passwords made of this gateway's own words: what somebody tries first who guesses here (ASVS 6.2.11)."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

WORDS = re.compile("altlas|gateway|segmentation")
_AS_LETTERS = str.maketrans("01345@$", "oleasas")


class OwnWordsValidator:
    """For AUTH_PASSWORD_VALIDATORS: without the words, as much must be left as a whole password needs."""

    MIN_LEFT = 8

    def validate(self, password: str, user: Any = None) -> None:
        plain = re.sub(r"[\s._-]", "", password.lower())
        left, found = WORDS.subn("", plain.translate(_AS_LETTERS))
        if found and len(left) < self.MIN_LEFT:
            raise ValidationError(self.get_help_text(), code="password_own_words")

    def get_help_text(self) -> str:
        return _("The password must be more than “gateway” or “ALT_LAS” with a few characters.")
