from rest_framework.request import Request

from accounts.models import User
from accounts.sign_in import SignIn


class SignedInRequest(Request):
    """The request of a view that lets only signed-in people through: for the type checker, which cannot see that."""

    user: User
    auth: SignIn
