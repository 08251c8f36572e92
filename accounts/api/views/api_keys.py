from typing import Any, ClassVar
from uuid import UUID

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from accounts.api.serializers.api_keys import ApiKeyInput, ApiKeyOutput, NewApiKeyOutput
from accounts.requests import SignedInRequest
from accounts.selectors import api_key_get, api_key_list
from accounts.services.api_keys import api_key_create, api_key_revoke
from gateway.api.serializers import PageQuery
from gateway.api.views import ApiView, NoQuery


class ApiKeyListView(ApiView):
    required_permissions: ClassVar = {"GET": "accounts.manage_own_apikey", "POST": "accounts.manage_own_apikey"}
    device_session_only = True
    serializer_class = ApiKeyOutput

    def get_query_serializer_class(self) -> type[serializers.Serializer[Any]]:
        return PageQuery if self.request.method in ("GET", "HEAD") else NoQuery

    @extend_schema(responses=ApiKeyOutput(many=True))
    def get(self, request: SignedInRequest) -> Response:
        """Your API keys, the newest first; those that have expired or were revoked too."""
        page = self.paginate_queryset(api_key_list(request.user))
        return self.get_paginated_response(ApiKeyOutput(page, many=True).data)

    @extend_schema(
        request=ApiKeyInput,
        responses={201: NewApiKeyOutput},
        examples=[
            OpenApiExample(
                "For a machine that sends commands",
                {
                    "name": "build server",
                    "scopes": ["commands.submit_command", "commands.read_own_command"],
                    "expires_at": "2027-01-01T00:00:00Z",
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: SignedInRequest) -> Response:
        """Make an API key: send it as `Authorization: Bearer <key>`, as you would an access token.

        The key is in this answer and nowhere else: only its hash is kept. Therefore a repeat could not be answered in
        the same way, and an `Idempotency-Key` is refused. If an answer gets lost, revoke the key and make another.
        """
        if "Idempotency-Key" in request.headers:
            message = _("Not possible here: the key is shown once, so a repeat cannot get the same answer.")
            detail = exceptions.ErrorDetail(message, code="not_supported")
            raise exceptions.ValidationError({"Idempotency-Key": [detail]})
        key, raw = api_key_create(actor=request.user, **self.read_body(request, ApiKeyInput))
        return Response({**ApiKeyOutput(key).data, "key": raw}, 201, headers={"Cache-Control": "no-store"})


class ApiKeyView(ApiView):
    required_permissions: ClassVar = {"DELETE": "accounts.manage_own_apikey"}
    device_session_only = True

    @extend_schema(responses={204: None})
    def delete(self, request: SignedInRequest, api_key_id: UUID) -> Response:
        """Revoke a key of yours: it is worth nothing from now on, and its sockets close. It stays in the list."""
        api_key_revoke(actor=request.user, api_key=api_key_get(request.user, api_key_id))
        return Response(status=204)
