"""Users with just these permissions, and their API keys, for the tests of who may do what."""

from datetime import timedelta

from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiKey, Role, User
from accounts.permissions import permissions_named
from accounts.sign_in import API_KEY_START, sha256_of
from conftest import PASSWORD
from gateway.ids import new_id


def role_with(name: str, *permissions: str, parent: Role | None = None) -> Role:
    role = Role.objects.create(name=name, parent=parent)
    role.permissions.set(permissions_named(permissions))
    return role


def person(name: str, *permissions: str) -> User:
    """Make a user who has a role of their own with these permissions, and no other."""
    return person_with(name, role_with(f"role-of-{name}", *permissions))


def person_with(name: str, *roles: Role | str) -> User:
    """Make a user with these roles, built-in ones by name."""
    user = User.objects.create_user(name, f"{name}@example.com", PASSWORD)
    user.groups.set(Role.objects.get(name=role) if isinstance(role, str) else role for role in roles)
    return user


def client_with_key(user: User, *scopes: str) -> APIClient:
    """Return a client that shows an API key of the user."""
    key_id = new_id()
    raw = f"{API_KEY_START}{key_id.hex}_secret"
    expires_at = timezone.now() + timedelta(days=1)
    ApiKey.objects.create(
        id=key_id, user=user, name="a key", key_sha256=sha256_of(raw), scopes=list(scopes), expires_at=expires_at
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {raw}")
    return client


def signed_in(user: User) -> Client:
    """Return a browser in which the user has signed in to the admin pages."""
    client = Client()
    client.force_login(user)
    return client


def staff(*permissions: str, name: str = "clerk") -> Client:
    """Return a browser of somebody who may use the admin pages, and do just this there."""
    return signed_in(person(name, "accounts.use_admin_pages", *permissions))
