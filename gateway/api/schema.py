"""How the OpenAPI schema is made: query parameters and errors are described once, for every endpoint."""

from typing import Any

from drf_spectacular import openapi

from gateway.api.permissions import Access, required_permission
from gateway.api.views import ApiView

PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details; the codes are listed at /api-docs/errors.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {"field": {"type": "string"}, "code": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
    "example": {
        "type": "/api-docs/errors#validation_error",
        "title": "The request has invalid values.",
        "status": 400,
        "detail": "The request has invalid values.",
        "code": "validation_error",
        "request_id": "019330d0-6f1e-7c3a-9d0b-2f5f0c6f0001",
        "errors": [{"field": "text", "code": "required", "detail": "This field is required."}],
    },
}


class AutoSchema(openapi.AutoSchema):
    """Adds what a view states besides its serializers: its parameters, and whom it serves."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation and isinstance(self.view, ApiView):
            required = required_permission(self.view, self.method)
            parts = (operation.get("description"), _needed(self.view, required))
            operation["description"] = "\n\n".join(part for part in parts if part)
            if required == Access.PUBLIC:
                operation.pop("security", None)
        return operation

    def get_override_parameters(self) -> list[Any]:
        if not isinstance(self.view, ApiView):
            return []
        query = self.view.get_query_serializer_class()
        return [query] if query().fields else []


def _needed(view: ApiView, required: str | Access | None) -> str:
    if required == Access.PUBLIC:
        return "Open to everybody."
    words = "For everybody who is signed in." if isinstance(required, Access) else f"Needs the permission `{required}`."
    no_keys = required == Access.DEVICE_SESSION or view.device_session_only
    return f"{words} Not for API keys." if no_keys else words


def add_problem_responses(result: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
    """Postprocessing hook: every operation may answer with a problem."""
    result["components"].setdefault("schemas", {})["Problem"] = PROBLEM
    answer = {
        "description": "Any error",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path in result["paths"].values():
        for operation in path.values():
            operation["responses"]["default"] = answer
    return result
