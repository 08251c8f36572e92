from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.serializers.roles import (
    MyPermissionsOutput,
    PermissionCheckInput,
    PermissionCheckOutput,
    PermissionOutput,
    RoleChangeInput,
    RoleInput,
    RoleOutput,
)
from accounts.idempotency import answer_once
from accounts.permissions import RoleTree, unknown_names, user_roles
from accounts.requests import SignedInRequest
from accounts.selectors import permission_list, role_get, role_list
from accounts.services.roles import role_change, role_create, role_delete, unknown_permission
from gateway.api.idempotency import IDEMPOTENCY_KEY
from gateway.api.pagination import KeysetPagination
from gateway.api.permissions import Access
from gateway.api.preconditions import IF_MATCH, etag_of, require_match
from gateway.api.serializers import PageQuery
from gateway.api.views import ApiView


class RolePagination(KeysetPagination):
    ordering = "public_id"


class RoleListView(ApiView):
    required_permissions: ClassVar = {"GET": "accounts.view_role", "POST": "accounts.add_role"}
    serializer_class = RoleOutput
    pagination_class = RolePagination
    query_serializer_class = PageQuery

    @extend_schema(responses=RoleOutput(many=True))
    def get(self, request: SignedInRequest) -> Response:
        """All roles, the built-in ones first."""
        page = self.paginate_queryset(role_list())
        return self.get_paginated_response(RoleOutput(page, many=True, context={"tree": RoleTree.read()}).data)

    @extend_schema(request=RoleInput, responses={201: RoleOutput}, parameters=[IDEMPOTENCY_KEY])
    def post(self, request: SignedInRequest) -> Response:
        """Make a role. It can give nothing that you do not have."""
        given = self.read_body(request, RoleInput)

        def create() -> Response:
            role = role_create(actor=request.user, **given)
            return Response(output_of(role.public_id), 201, headers={"Location": f"{request.path}/{role.public_id}"})

        return answer_once(request, lambda: create)


class RoleView(ApiView):
    required_permissions: ClassVar = {
        "GET": "accounts.view_role",
        "PATCH": "accounts.change_role",
        "DELETE": "accounts.delete_role",
    }

    @extend_schema(responses=RoleOutput)
    def get(self, request: SignedInRequest, role_id: UUID) -> Response:
        """One role."""
        return Response(output_of(role_id))

    @extend_schema(request=RoleChangeInput, responses=RoleOutput, parameters=[IF_MATCH])
    def patch(self, request: SignedInRequest, role_id: UUID) -> Response:
        """Change a role; its members feel it at once. Of a built-in one, only `requires_second_factor`."""
        role = role_get(role_id)
        changes = self.read_body(request, RoleChangeInput)
        reason = changes.pop("reason", "")
        check = unchanged_since(request, role_id)
        role_change(actor=request.user, role=role, changes=changes, reason=reason, precondition=check)
        data = output_of(role_id)
        return Response(data, headers={"ETag": etag_of(request, data)})

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def delete(self, request: SignedInRequest, role_id: UUID) -> Response:
        """Delete a role: its members lose it. Not while another role inherits from it, or a route rule asks for it."""
        role_delete(actor=request.user, role=role_get(role_id), precondition=unchanged_since(request, role_id))
        return Response(status=204)


class PermissionPagination(KeysetPagination):
    ordering = "full_name"


class PermissionListView(ApiView):
    required_permissions: ClassVar = {"GET": "accounts.view_role"}
    serializer_class = PermissionOutput
    pagination_class = PermissionPagination
    query_serializer_class = PageQuery

    @extend_schema(responses=PermissionOutput(many=True))
    def get(self, request: SignedInRequest) -> Response:
        """Everything that a role can permit, by name."""
        return self.get_paginated_response(PermissionOutput(self.paginate_queryset(permission_list()), many=True).data)


class MyPermissionsView(ApiView):
    required_permissions: ClassVar = {"GET": Access.SIGNED_IN}
    open_to_obliged = True

    @extend_schema(responses=MyPermissionsOutput)
    def get(self, request: SignedInRequest) -> Response:
        """What you may do with the token that you show, and what you have to do first."""
        auth = request.auth
        roles = sorted(user_roles(request.user), key=lambda role: role.name)
        data = {
            "permissions": sorted(auth.permissions),
            "roles": roles,
            "denied_routes": auth.denied_routes,
            "obligations": auth.obligations,
        }
        return Response(MyPermissionsOutput(data).data)


class PermissionCheckView(ApiView):
    required_permissions: ClassVar = {"POST": Access.SIGNED_IN}
    open_to_obliged = True

    @extend_schema(request=PermissionCheckInput, responses=PermissionCheckOutput)
    def post(self, request: SignedInRequest) -> Response:
        """Whether you have these permissions, by the token that you show: for a user interface."""
        names = self.read_body(request, PermissionCheckInput)["permissions"]
        for name in unknown_names(names):
            raise unknown_permission("permissions", name)
        return Response({"results": {name: request.auth.allows(name) for name in names}})


def output_of(role_id: UUID) -> Any:
    return RoleOutput(role_get(role_id), context={"tree": RoleTree.read()}).data


def unchanged_since(request: Request, role_id: UUID) -> Any:
    return partial(require_match, request, lambda: output_of(role_id))
