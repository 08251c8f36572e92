import pytest
from django.core.exceptions import ValidationError

from accounts.password_words import OwnWordsValidator

pytestmark = [pytest.mark.security, pytest.mark.security_authentication]


@pytest.mark.parametrize(
    "password", ["gateway1", "AltLas2026!", "ALT_LAS-2026", "g4teway.g4teway", "@lt.L4s_gatew@y", "Segmentation1"]
)
def test_the_gateways_own_words_are_no_password(password):
    with pytest.raises(ValidationError) as refused:
        OwnWordsValidator().validate(password)
    assert refused.value.code == "password_own_words"


@pytest.mark.parametrize(
    "password", ["correct horse battery staple", "gateway to a better world", "alt", "9-gateway-kX7.wQ2!ab", ""]
)
def test_what_has_more_than_these_is_for_others_to_judge(password):
    OwnWordsValidator().validate(password)
