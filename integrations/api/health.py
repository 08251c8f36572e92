"""`/health/services` and `/health/services/{kind}`: for people and monitors, without sign-in and without addresses."""

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

from gateway.api.problems import safe_methods_only
from integrations.models import ServiceKind
from integrations.selectors import health_of_kind


@never_cache
@safe_methods_only
def service_health(_request: HttpRequest, kind: str | None = None) -> HttpResponse:
    """Say how the services are. 200 whatever they are: `/health/ready` is what a load balancer asks."""
    if kind is not None:
        if kind not in ServiceKind.values:
            raise Http404
        return JsonResponse(health_of_kind(ServiceKind(kind)))
    services = {str(each): health_of_kind(each) for each in ServiceKind}
    worst = {service["status"] for service in services.values()}
    status = next(word for word in ("unavailable", "degraded", "ok") if word in worst)
    return JsonResponse({"status": status, "services": services})
