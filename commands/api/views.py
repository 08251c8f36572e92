from typing import Any, ClassVar, cast
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import exceptions
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.requests import SignedInRequest
from commands.api.filters import CommandQuery, history_asked_for
from commands.api.history import HistoryPagination, history_as_csv
from commands.api.serializers import (
    CommandInput,
    CommandOutput,
    EventListOutput,
    EventOutput,
    EventQuery,
    ResultOutput,
    result_output,
)
from commands.api.timeline_serializers import TimelineOutput, timeline_output
from commands.callbacks import command_of_token
from commands.selectors import EVENTS_LIMIT, command_events, command_get, command_result
from commands.services import as_submitted, command_submit, runner_report
from commands.states import Stage
from commands.timeline import command_timeline
from gateway.api.idempotency import IDEMPOTENCY_KEY, idempotency_key
from gateway.api.negotiation import CsvRenderer
from gateway.api.parsers import StrictJSONParser
from gateway.api.permissions import Access
from gateway.api.serializers import output_of
from gateway.api.views import ApiView
from integrations.clients.errors import InvalidAnswerError

LIST_RESPONSES = {(200, "application/json"): CommandOutput(many=True), (200, "text/csv"): OpenApiTypes.STR}


class CommandListView(ApiView):
    required_permissions: ClassVar = {"GET": "commands.read_own_command", "POST": "commands.submit_command"}
    serializer_class = CommandOutput
    query_serializer_class = CommandQuery
    pagination_class = HistoryPagination

    def get_renderers(self) -> list[BaseRenderer]:
        csv = [CsvRenderer()] if self.request.method in ("GET", "HEAD") else []
        return [*super().get_renderers(), *csv]

    @extend_schema(responses=LIST_RESPONSES)
    def get(self, request: SignedInRequest) -> HttpResponseBase:
        """Your commands, the newest first: those for which all that is asked for holds.

        With `Accept: text/csv` all of them come as one file, for which `limit` and `cursor` are not taken.
        """
        history = history_asked_for(request, self.query)
        if request.accepted_renderer.format == CsvRenderer.format:
            return history_as_csv(request, history, self.query)
        page = self.paginate_queryset(cast("Any", history))  # it is paged through as a queryset is
        return self.get_paginated_response([output_of(CommandOutput, command) for command in page or ()])

    @extend_schema(
        request=CommandInput,
        responses={201: CommandOutput},
        parameters=[IDEMPOTENCY_KEY],
        examples=[OpenApiExample("Two tasks", {"text": "echo Merhaba dünya ve ardından calc 6*7"}, request_only=True)],
    )
    def post(self, request: SignedInRequest) -> Response:
        """Send a command. It is stored before the answer; what becomes of it is told by its events."""
        key = idempotency_key(request)
        command = command_submit(user=request.user, idempotency_key=key, **self.read_body(request, CommandInput))
        data = output_of(CommandOutput, as_submitted(command))
        return Response(data, status=201, headers={"Location": data["links"]["self"]})


class CommandView(ApiView):
    required_permissions: ClassVar = {"GET": "commands.read_own_command"}

    @extend_schema(responses=CommandOutput)
    def get(self, request: SignedInRequest, command_id: UUID) -> Response:
        """One command of yours, as it stands."""
        return Response(output_of(CommandOutput, command_get(user=request.user, command_id=command_id)))


class CommandEventsView(ApiView):
    required_permissions: ClassVar = {"GET": "commands.read_own_command"}
    query_serializer_class = EventQuery

    @extend_schema(responses=EventListOutput)
    def get(self, request: SignedInRequest, command_id: UUID) -> Response:
        """What happened, numbered and in order: the same objects that the socket sends."""
        command = command_get(user=request.user, command_id=command_id)
        events = command_events(command_id=command.id, after=int(self.query["after"]))
        full = len(events) == EVENTS_LIMIT
        more = request.build_absolute_uri(f"{request.path}?after={events[-1].seq}") if full else None
        return Response(
            {"results": [output_of(EventOutput, event) for event in events], "next": more, "previous": None}
        )


class CommandTimelineView(ApiView):
    required_permissions: ClassVar = {"GET": "commands.read_own_command"}

    @extend_schema(responses=TimelineOutput)
    def get(self, request: SignedInRequest, command_id: UUID) -> Response:
        """Every try of every stage; what the command waits for; how its cancellation went."""
        command = command_get(user=request.user, command_id=command_id)
        return Response(timeline_output(command_timeline(command=command)))


class CommandResultView(ApiView):
    required_permissions: ClassVar = {"GET": "commands.read_own_command"}

    @extend_schema(responses=ResultOutput)
    def get(self, request: SignedInRequest, command_id: UUID) -> Response:
        """What came out, once the command has ended; 409 before."""
        command = command_get(user=request.user, command_id=command_id)
        return Response(ResultOutput(result_output(command, command_result(command=command))).data)


class CallbackParser(StrictJSONParser):
    max_bytes = 64 * 1024  # what a runner says of a task is short


class RunnerCallbackView(ApiView):
    """Where a runner reports on its own. The address itself is the secret: it is signed for one command and stage."""

    authentication_classes = ()
    parser_classes = (CallbackParser,)
    required_permissions: ClassVar = {"POST": Access.PUBLIC}

    @extend_schema(exclude=True)
    def post(self, request: Request, token: str) -> Response:
        command_id = command_of_token(token, Stage.RUNNER)
        if command_id is None:
            raise exceptions.NotFound
        try:
            runner_report(command_id=command_id, body=request.data)
        except InvalidAnswerError as error:
            raise exceptions.ValidationError({"body": [error.detail]}) from error
        return Response(status=204)
