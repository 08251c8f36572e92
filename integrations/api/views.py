from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.idempotency import answer_once
from accounts.requests import SignedInRequest
from gateway.api.idempotency import IDEMPOTENCY_KEY
from gateway.api.preconditions import IF_MATCH, etag_of_living, require_match_of_living
from gateway.api.serializers import PageQuery
from gateway.api.views import ApiView
from integrations.api.serializers import (
    CheckOutput,
    ServiceChangeInput,
    ServiceInput,
    ServiceOutput,
    ServiceQuery,
    context_of,
)
from integrations.clients.dialects import STANDARD
from integrations.models import ServiceInstance
from integrations.selectors import check_list, instance_get, instance_list, own_instance_get
from integrations.services import (
    CHANGEABLE,
    Described,
    checked_base_url,
    checked_dialect,
    instance_change,
    instance_delete,
    instance_heartbeat,
    instance_heartbeat_of,
    instance_register,
)

VIEW, REGISTER, CHANGE = (f"integrations.{act}_serviceinstance" for act in ("view", "register", "change"))


class ServiceListView(ApiView):
    required_permissions: ClassVar = {"GET": VIEW, "POST": REGISTER}
    serializer_class = ServiceOutput
    query_serializer_class = ServiceQuery

    @extend_schema(responses=ServiceOutput(many=True))
    def get(self, request: SignedInRequest) -> Response:
        """All instances of the backend services, the newest first."""
        page = self.paginate_queryset(instance_list(kind=self.query.get("kind"))) or []
        output = ServiceOutput(page, many=True, context=context_of(page))
        return self.get_paginated_response(output.data)

    @extend_schema(
        request=ServiceInput,
        responses={200: ServiceOutput, 201: ServiceOutput},
        parameters=[IDEMPOTENCY_KEY],
        examples=[
            OpenApiExample(
                "A runner with a graphics card",
                {"kind": "runner", "base_url": "http://runner-7:9000", "version": "2.1", "tags": ["gpu"]},
                request_only=True,
            )
        ],
    )
    def post(self, request: SignedInRequest) -> Response:
        """Register an instance (201), or say again what it is (200): after a restart, it simply registers anew.

        It is in use once a check has found it healthy, and stays as long as heartbeats come.
        """
        given = self.read_body(request, ServiceInput)
        kind, said_dialect, said_url = given.pop("kind"), given.pop("dialect", STANDARD), given.pop("base_url")
        registered: list[ServiceInstance] = []

        def begin() -> Callable[[], Response]:
            dialect = checked_dialect(kind, said_dialect)
            base_url = checked_base_url(said_url)
            described = Described(dialect=dialect, **given)

            def register() -> Response:
                row, is_new = instance_register(actor=request.user, kind=kind, base_url=base_url, described=described)
                registered.append(row)
                headers = {"Location": f"{request.path}/{row.id}"}
                return Response(output_of(row), 201 if is_new else 200, headers=headers)

            return register

        answer = answer_once(request, begin)
        if registered or instance_heartbeat_of(owner=request.user, instance_id=answer.data["id"]):
            return answer
        return begin()()  # it was answered before, and that is not true any more: it left, or is another's


class ServiceView(ApiView):
    required_permissions: ClassVar = {"GET": VIEW, "PATCH": CHANGE, "DELETE": REGISTER}

    @extend_schema(responses=ServiceOutput)
    def get(self, request: SignedInRequest, service_id: UUID) -> Response:
        """One instance, with its last checks."""
        return _answer(request, instance_get(service_id))

    @extend_schema(request=ServiceChangeInput, responses=ServiceOutput, parameters=[IF_MATCH])
    def patch(self, request: SignedInRequest, service_id: UUID) -> Response:
        """Change an instance. A disabled one gets no work and is not checked."""
        row = instance_get(service_id)
        changes = self.read_body(request, ServiceChangeInput)
        reason = changes.pop("reason", "")
        unchanged = partial(require_match_of_living, request, lambda: _editable(instance_get(service_id)))
        row = instance_change(actor=request.user, instance=row, changes=changes, reason=reason, precondition=unchanged)
        return _answer(request, row)

    @extend_schema(responses={204: None})
    def delete(self, request: SignedInRequest, service_id: UUID) -> Response:
        """Deregister an instance of yours. It gets no more work, and is asked after what it has."""
        instance_delete(actor=request.user, instance=own_instance_get(request.auth, service_id))
        return Response(status=204)


class ServiceHeartbeatView(ApiView):
    required_permissions: ClassVar = {"POST": REGISTER}

    @extend_schema(request=None, responses={204: None})
    def post(self, request: SignedInRequest, service_id: UUID) -> Response:
        """Say that an instance of yours is alive, several times within its `time_to_live`."""
        instance_heartbeat(instance=own_instance_get(request.auth, service_id))
        return Response(status=204)


class ServiceDrainView(ApiView):
    required_permissions: ClassVar = {"POST": REGISTER}

    @extend_schema(request=None, responses=ServiceOutput)
    def post(self, request: SignedInRequest, service_id: UUID) -> Response:
        """Give an instance of yours no new work; it keeps what it has.

        To register anew ends that, unless an administrator did it.
        """
        row = own_instance_get(request.auth, service_id)
        own = row.registered_by_id == request.user.pk
        row = instance_change(actor=request.user, instance=row, changes={"is_draining": True}, by_owner=own)
        return Response(output_of(row))


class ServiceChecksView(ApiView):
    required_permissions: ClassVar = {"GET": VIEW}
    serializer_class = CheckOutput
    query_serializer_class = PageQuery

    @extend_schema(responses=CheckOutput(many=True))
    def get(self, request: SignedInRequest, service_id: UUID) -> Response:
        """The checks of the last day, the latest first."""
        page = self.paginate_queryset(check_list(instance_get(service_id)))
        return self.get_paginated_response(CheckOutput(page, many=True).data)


def _answer(request: Request, row: ServiceInstance) -> Response:
    data = output_of(row)
    return Response(data, headers={"ETag": etag_of_living(request, data, _editable(row))})


def _editable(row: ServiceInstance) -> Any:
    return {field: getattr(row, field) for field in CHANGEABLE}


def output_of(row: ServiceInstance) -> Any:
    return ServiceOutput(row, context=context_of([row])).data
