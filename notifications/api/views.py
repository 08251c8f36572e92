from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.response import Response

from accounts.requests import SignedInRequest
from gateway.api.errors import ApiError, ErrorCode
from gateway.api.permissions import Access
from gateway.api.views import ApiView
from notifications.tickets import ticket_issue


class TicketOutput(serializers.Serializer[Any]):
    ticket = serializers.CharField()
    url = serializers.CharField(help_text="Where to open the socket, the ticket included.")
    expires_at = serializers.DateTimeField()


class TicketView(ApiView):
    required_permissions: ClassVar = {"POST": Access.SIGNED_IN}

    @extend_schema(request=None, responses={201: TicketOutput})
    def post(self, request: SignedInRequest) -> Response:
        """Get a ticket that opens one socket within 30 seconds."""
        try:
            ticket = ticket_issue(request.auth)
        except RedisError as error:
            raise ApiError(ErrorCode.SERVICE_UNAVAILABLE) from error
        scheme = "wss" if request.is_secure() else "ws"
        url = f"{scheme}://{request.get_host()}/ws?ticket={ticket.ticket}"
        return Response(TicketOutput({"ticket": ticket.ticket, "url": url, "expires_at": ticket.expires_at}).data, 201)
