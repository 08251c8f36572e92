from threading import Lock
from typing import Any, ClassVar

from django.http import HttpResponse
from django.utils.translation import get_language
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request

from gateway.api.views import NoQuery


class SchemaView(SpectacularAPIView):
    """The OpenAPI schema, made once per language and format.

    By one thread at a time: drf-spectacular's generator is not thread-safe.
    """

    _lock = Lock()
    _made: ClassVar[dict[tuple[str | None, str], bytes]] = {}

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        NoQuery(data=request.query_params).is_valid(raise_exception=True)
        renderer: Any = request.accepted_renderer
        key = (get_language(), renderer.media_type)
        with self._lock:
            if key not in self._made:
                response = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]  # no types there
                self._made[key] = renderer.render(response.data, renderer.media_type, self.get_renderer_context())
        return HttpResponse(self._made[key], content_type=renderer.media_type)
