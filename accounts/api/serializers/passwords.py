from accounts.api.serializers.users import AddressField
from gateway.api.serializers import StrictCharField, StrictSerializer


class ForgotInput(StrictSerializer):
    email = AddressField()


class ResetInput(StrictSerializer):
    token = StrictCharField(max_length=1024)
    password = StrictCharField(max_length=1024)


class ChangeInput(StrictSerializer):
    current = StrictCharField(max_length=1024)
    new = StrictCharField(max_length=1024)
