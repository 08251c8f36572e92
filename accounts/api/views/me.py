from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from accounts.api.serializers.me import MeChangeInput, MeOutput, MySessionOutput
from accounts.models import User
from accounts.models.sessions import SessionEnd
from accounts.requests import SignedInRequest
from accounts.selectors import open_sessions
from accounts.services.profile import profile_change
from accounts.services.sessions import sessions_end
from accounts.sign_in import sign_in_by_credential
from gateway.api.permissions import Access
from gateway.api.preconditions import IF_MATCH, etag_of, require_match
from gateway.api.serializers import PageQuery
from gateway.api.views import ApiView


class MeView(ApiView):
    required_permissions: ClassVar = {"GET": Access.SIGNED_IN, "PATCH": Access.DEVICE_SESSION}
    open_to_obliged = True  # who has to verify an address may have mistyped it

    @extend_schema(responses=MeOutput)
    def get(self, request: SignedInRequest) -> Response:
        """Who the token speaks for."""
        return Response(MeOutput(request.user, context={"sign_in": request.auth}).data)

    @extend_schema(request=MeChangeInput, responses=MeOutput, parameters=[IF_MATCH])
    def patch(self, request: SignedInRequest) -> Response:
        """Change your profile. A new address needs `current_password`, and has to be verified."""
        changes = self.read_body(request, MeChangeInput)
        password = changes.pop("current_password", "")
        unchanged = partial(require_match, request, lambda: self._fresh(request))
        profile_change(user=request.user, changes=changes, precondition=unchanged, current_password=password)
        data = self._fresh(request)
        return Response(data, headers={"ETag": etag_of(request, data)})

    def _fresh(self, request: SignedInRequest) -> Any:
        """Return the answer as it is now, not as it was when the request came in."""
        sign_in = sign_in_by_credential(request.auth.credential_id, request.auth.expires_at)
        return MeOutput(User.objects.get(pk=request.user.pk), context={"sign_in": sign_in}).data


class MySessionsView(ApiView):
    required_permissions: ClassVar = {"GET": Access.DEVICE_SESSION, "DELETE": Access.DEVICE_SESSION}
    open_to_obliged = True
    serializer_class = MySessionOutput
    query_serializer_class = PageQuery

    @extend_schema(responses=MySessionOutput(many=True))
    def get(self, request: SignedInRequest) -> Response:
        """The devices on which you are signed in, the latest sign-in first."""
        page = self.paginate_queryset(open_sessions(request.user))
        output = MySessionOutput(page, many=True, context={"sign_in": request.auth})
        return self.get_paginated_response(output.data)

    @extend_schema(operation_id="me_sessions_destroy_others", responses={204: None})
    def delete(self, request: SignedInRequest) -> Response:
        """Sign out on all devices but this one, at once. API keys stay good."""
        others = open_sessions(request.user).exclude(id=request.auth.credential_id)
        sessions_end(sessions=others, actor=request.user, reason=SessionEnd.REVOKED)
        return Response(status=204)


class MySessionView(ApiView):
    required_permissions: ClassVar = {"DELETE": Access.DEVICE_SESSION}
    open_to_obliged = True

    @extend_schema(responses={204: None})
    def delete(self, request: SignedInRequest, session_id: UUID) -> Response:
        """Sign out on one device, at once. It may be this one."""
        own = open_sessions(request.user).filter(id=session_id)
        if not sessions_end(sessions=own, actor=request.user, reason=SessionEnd.REVOKED):
            raise Http404
        return Response(status=204)
