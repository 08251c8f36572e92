from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.serializers.users import (
    UserAccountOutput,
    UserChangeInput,
    UserInput,
    UserQuery,
    UserRolesInput,
    UserSessionOutput,
)
from accounts.idempotency import answer_once
from accounts.models import User
from accounts.requests import SignedInRequest
from accounts.selectors import open_sessions, user_get, user_list
from accounts.services import failed_sign_ins
from accounts.services.users import (
    user_change,
    user_create,
    user_delete,
    user_prepare,
    user_roles_set,
    user_sessions_end,
)
from gateway.api.idempotency import IDEMPOTENCY_KEY
from gateway.api.preconditions import IF_MATCH, etag_of, require_match
from gateway.api.serializers import PageQuery
from gateway.api.views import ApiView


class UserListView(ApiView):
    required_permissions: ClassVar = {"GET": "accounts.view_user", "POST": "accounts.add_user"}
    serializer_class = UserAccountOutput
    query_serializer_class = UserQuery

    @extend_schema(responses=UserAccountOutput(many=True))
    def get(self, request: SignedInRequest) -> Response:
        """All users, the newest first."""
        given = self.query
        is_active = given["is_active"] == "true" if "is_active" in given else None
        page = self.paginate_queryset(user_list(q=given.get("q", ""), is_active=is_active, role=given.get("role")))
        return self.get_paginated_response(UserAccountOutput(page, many=True).data)

    @extend_schema(request=UserInput, responses={201: UserAccountOutput}, parameters=[IDEMPOTENCY_KEY])
    def post(self, request: SignedInRequest) -> Response:
        """Make a user. Nobody can give roles that may do more than themselves; `roles` needs accounts.assign_role."""
        given = self.read_body(request, UserInput)
        roles = given.pop("roles", None)

        def begin() -> Callable[[], Response]:
            user = user_prepare(**given)
            return lambda: self._created(request, user_create(actor=request.user, user=user, roles=roles))

        return answer_once(request, begin)

    def _created(self, request: Request, user: User) -> Response:
        location = f"{request.path}/{user.id}"
        return Response(UserAccountOutput(user_get(user.id)).data, 201, headers={"Location": location})


class UserView(ApiView):
    required_permissions: ClassVar = {
        "GET": "accounts.view_user",
        "PATCH": "accounts.change_user",
        "DELETE": "accounts.delete_user",
    }

    @extend_schema(responses=UserAccountOutput)
    def get(self, request: SignedInRequest, user_id: UUID) -> Response:
        """One user."""
        return Response(UserAccountOutput(user_get(user_id)).data)

    @extend_schema(request=UserChangeInput, responses=UserAccountOutput, parameters=[IF_MATCH])
    def patch(self, request: SignedInRequest, user_id: UUID) -> Response:
        """Change a user. Deactivation ends all their sessions; a new address counts as unverified."""
        user = user_get(user_id)
        changes = self.read_body(request, UserChangeInput)
        reason = changes.pop("reason", "")
        check = unchanged_since(request, user_id)
        user_change(actor=request.user, user=user, changes=changes, reason=reason, precondition=check)
        return changed_user(request, user_id)

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: SignedInRequest, user_id: UUID) -> Response:
        """Delete a user with all that is theirs: sessions, commands, files. To keep these, deactivate instead."""
        user_delete(actor=request.user, user=user_get(user_id), precondition=unchanged_since(request, user_id))
        return Response(status=204)


class UserRolesView(ApiView):
    required_permissions: ClassVar = {"PUT": "accounts.assign_role"}

    @extend_schema(request=UserRolesInput, responses=UserAccountOutput, parameters=[IF_MATCH])
    def put(self, request: SignedInRequest, user_id: UUID) -> Response:
        """Give a user these roles and no others; `If-Match` takes the ETag of the user."""
        user = user_get(user_id)
        given = self.read_body(request, UserRolesInput)
        user_roles_set(actor=request.user, user=user, precondition=unchanged_since(request, user_id), **given)
        return changed_user(request, user_id)


class UserSessionsView(ApiView):
    required_permissions: ClassVar = {"GET": "accounts.view_devicesession", "DELETE": "accounts.end_session"}
    serializer_class = UserSessionOutput
    query_serializer_class = PageQuery

    @extend_schema(responses=UserSessionOutput(many=True))
    def get(self, request: SignedInRequest, user_id: UUID) -> Response:
        """The devices on which a user is signed in, the latest sign-in first."""
        page = self.paginate_queryset(open_sessions(user_get(user_id)))
        return self.get_paginated_response(UserSessionOutput(page, many=True).data)

    @extend_schema(responses={204: None})
    def delete(self, request: SignedInRequest, user_id: UUID) -> Response:
        """Sign a user out on all devices, at once. API keys stay good."""
        user_sessions_end(actor=request.user, user=user_get(user_id))
        return Response(status=204)


class UserUnlockView(ApiView):
    required_permissions: ClassVar = {"POST": "accounts.unlock_user"}

    @extend_schema(request=None, responses={204: None})
    def post(self, request: SignedInRequest, user_id: UUID) -> Response:
        """Let a user sign in again at once, after too many failed sign-ins."""
        failed_sign_ins.user_unlock(actor=request.user, user=user_get(user_id))
        return Response(status=204)


def unchanged_since(request: Request, user_id: UUID) -> Any:
    return partial(require_match, request, lambda: UserAccountOutput(user_get(user_id)).data)


def changed_user(request: Request, user_id: UUID) -> Response:
    data = UserAccountOutput(user_get(user_id)).data
    return Response(data, headers={"ETag": etag_of(request, data)})
