"""The admin pages of this room. Whatever they change, services change."""

from django.contrib import admin
from django.contrib.auth.models import Group
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.admin import api_keys, audit, failed_sign_ins, mails, roles, route_rules, sessions, users

__all__ = ["api_keys", "audit", "failed_sign_ins", "mails", "roles", "route_rules", "sessions", "users"]

admin.site.unregister(Group)  # roles are more than groups
admin.site.unregister([StaticDevice, TOTPDevice])  # their pages show secrets
