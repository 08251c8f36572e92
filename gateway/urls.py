"""Every path of the gateway, room by room."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularRedocView, SpectacularSwaggerView

from gateway import health
from gateway.api.schema_view import SchemaView
from gateway.api.views import error_catalogue
from gateway.metrics import MetricsView
from integrations.api.health import service_health

handler400 = "gateway.api.problems.bad_request"
handler403 = "gateway.api.problems.permission_denied"
handler404 = "gateway.api.problems.page_not_found"
handler500 = "gateway.api.problems.server_error"

urlpatterns = [
    path("health", health.summary, name="health"),
    path("health/live", health.live, name="health-live"),
    path("health/ready", health.ready, name="health-ready"),
    path("health/services", service_health, name="health-services"),
    path("health/services/<str:kind>", service_health, name="health-services-of-kind"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("admin/i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
    path("api-docs", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
    path(
        "api-docs/redoc",
        SpectacularRedocView.as_view(url_name="schema", template_name="gateway_api/redoc.html"),
        name="api-docs-redoc",
    ),
    path("api-docs/errors", error_catalogue, name="api-docs-errors"),
    path("api/v2/schema", SchemaView.as_view(), name="schema"),
    path("api/v2/", include("accounts.api.urls")),
    path("api/v2/", include("commands.api.urls")),
    path("api/v2/", include("files.api.urls")),
    path("api/v2/", include("integrations.api.urls")),
    path("api/v2/", include("notifications.api.urls")),
]
