from typing import ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.response import Response

from accounts.api.serializers.api_keys import ApiKeyInput, ApiKeyOutput, NewApiKeyOutput
from accounts.idempotency import answer_once
from accounts.requests import SignedInRequest
from accounts.selectors import api_key_get, api_key_list
from accounts.services.api_keys import RawKey, api_key_create, api_key_revoke
from gateway.api.idempotency import IDEMPOTENCY_KEY, idempotency_key
from gateway.api.serializers import PageQuery
from gateway.api.views import ApiView


class ApiKeyListView(ApiView):
    required_permissions: ClassVar = {"GET": "accounts.manage_own_apikey", "POST": "accounts.manage_own_apikey"}
    device_session_only = True
    serializer_class = ApiKeyOutput
    query_serializer_class = PageQuery

    @extend_schema(responses=ApiKeyOutput(many=True))
    def get(self, request: SignedInRequest) -> Response:
        """Your API keys, the newest first; those that have expired or were revoked too."""
        page = self.paginate_queryset(api_key_list(request.user))
        return self.get_paginated_response(ApiKeyOutput(page, many=True).data)

    @extend_schema(
        request=ApiKeyInput,
        responses={201: NewApiKeyOutput},
        parameters=[IDEMPOTENCY_KEY],
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

        The key is in this answer and nowhere else: only its hash is kept. If the answer gets lost, the same request
        with the same `Idempotency-Key` shows it again within a day. Without one, revoke the key and make another.
        """
        given = self.read_body(request, ApiKeyInput)
        raw_key = RawKey(idempotency_key(request))

        def create() -> Response:
            key, _raw = api_key_create(actor=request.user, raw_key=raw_key, **given)
            return Response(ApiKeyOutput(key).data, 201)

        answer = answer_once(request, lambda: create)  # which keeps the answer, and so must not see the key
        shown = {**answer.data, "key": raw_key.of(UUID(answer.data["id"]))}
        return Response(shown, 201, headers={"Cache-Control": "no-store"})


class ApiKeyView(ApiView):
    required_permissions: ClassVar = {"DELETE": "accounts.manage_own_apikey"}
    device_session_only = True

    @extend_schema(responses={204: None})
    def delete(self, request: SignedInRequest, api_key_id: UUID) -> Response:
        """Revoke a key of yours: it is worth nothing from now on, and its sockets close. It stays in the list."""
        api_key_revoke(actor=request.user, api_key=api_key_get(request.user, api_key_id))
        return Response(status=204)
