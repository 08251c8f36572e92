"""One stage by itself, through the same pipeline: `segmentation`, `runner` and `archive`."""

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from accounts.requests import SignedInRequest
from commands.api.serializers import SegmentationInput
from commands.api.step_serializers import ArchiveInput, ArchiveSearchOutput, ArchiveSearchQuery, RunnerInput, StepOutput
from commands.archive_search import archive_search
from commands.selectors import step_get
from commands.services import as_submitted, command_cancel
from commands.states import Stage
from commands.steps import step_submit
from gateway.api.idempotency import IDEMPOTENCY_KEY, idempotency_key
from gateway.api.serializers import NoBody
from gateway.api.views import ApiView

ALT = "id: demo\nsegments:\n- id: s1\n  content: echo Merhaba\n"
LAST = '{"id": "demo", "status": "success", "success_rate": 1.0, "task_results": {}}'


class _SubmitView(ApiView):
    required_permissions: ClassVar = {"POST": "commands.submit_step"}
    serializer_class = StepOutput

    def submit(self, request: SignedInRequest, kind: Stage, body: type[Serializer[Any]]) -> Response:
        key = idempotency_key(request)
        step = step_submit(user=request.user, kind=kind, idempotency_key=key, **self.read_body(request, body))
        data = StepOutput(as_submitted(step)).data
        return Response(data, status=202, headers={"Location": data["links"]["self"]})


class SegmentationView(_SubmitView):
    @extend_schema(
        request=SegmentationInput,
        responses={202: StepOutput},
        parameters=[IDEMPOTENCY_KEY],
        examples=[OpenApiExample("Two tasks", {"text": "echo Merhaba ve ardından calc 6*7"}, request_only=True)],
    )
    def post(self, request: SignedInRequest) -> Response:
        """Have a text split into tasks, and nothing else: what comes out is an `.alt`."""
        return self.submit(request, Stage.SEGMENTATION, SegmentationInput)


class RunnerView(_SubmitView):
    @extend_schema(
        request=RunnerInput,
        responses={202: StepOutput},
        parameters=[IDEMPOTENCY_KEY],
        examples=[OpenApiExample("One task, as YAML", {"content": ALT}, request_only=True)],
    )
    def post(self, request: SignedInRequest) -> Response:
        """Have an `.alt` run (JSON or YAML), and nothing else: what comes out is a `.last`."""
        return self.submit(request, Stage.RUNNER, RunnerInput)


class ArchiveView(_SubmitView):
    @extend_schema(
        request=ArchiveInput,
        responses={202: StepOutput},
        parameters=[IDEMPOTENCY_KEY],
        examples=[OpenApiExample("With a tag", {"content": LAST, "tags": ["demo"]}, request_only=True)],
    )
    def post(self, request: SignedInRequest) -> Response:
        """Have a `.last` archived, and nothing else: what comes out is an `.atlas`."""
        return self.submit(request, Stage.ARCHIVE, ArchiveInput)


class StepView(ApiView):
    required_permissions: ClassVar = {"GET": "commands.read_own_command"}
    kind = Stage.SEGMENTATION  # or another, as as_view() is told

    @extend_schema(responses=StepOutput)
    def get(self, request: SignedInRequest, step_id: UUID) -> Response:
        """One step of yours, as it stands."""
        return Response(StepOutput(step_get(user=request.user, kind=self.kind, step_id=step_id)).data)


class RunnerCancelView(ApiView):
    required_permissions: ClassVar = {"POST": "commands.cancel_own_command"}

    @extend_schema(request=None, responses={202: StepOutput})
    def post(self, request: SignedInRequest, step_id: UUID) -> Response:
        """Ask for the end of a run. The runner has the last word on whether it could still be stopped."""
        self.read_body(request, NoBody)
        step = command_cancel(command=step_get(user=request.user, kind=Stage.RUNNER, step_id=step_id))
        return Response(StepOutput(step).data, status=202)


class ArchiveSearchView(ApiView):
    required_permissions: ClassVar = {"GET": "commands.search_own_archive"}
    query_serializer_class = ArchiveSearchQuery

    @extend_schema(responses=ArchiveSearchOutput)
    def get(self, request: SignedInRequest) -> Response:
        """What your commands and steps had archived. A page may be short, or empty, before the last one."""
        return Response(ArchiveSearchOutput(archive_search(user=request.user, **self.query)).data)
