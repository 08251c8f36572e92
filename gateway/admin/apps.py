from django.contrib.admin.apps import AdminConfig


class GatewayAdminConfig(AdminConfig):
    """Django's admin, with the gateway's own door (accounts.admin_site)."""

    default_site = "accounts.admin_site.GatewayAdminSite"
