"""What is done with commands that there are, and with many at once."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response

from accounts.idempotency import answer_once
from accounts.requests import SignedInRequest
from commands.api.act_serializers import (
    BulkCancelInput,
    BulkCancelOutput,
    BulkSubmitInput,
    BulkSubmitOutput,
    RetryInput,
    item_output,
)
from commands.api.filters import filters_of
from commands.api.serializers import CommandInput, CommandOutput
from commands.bulk import cancellable_ids, commands_cancel, commands_submit
from commands.retries import command_retry
from commands.selectors import command_get
from commands.services import as_submitted, command_cancel
from gateway.api.idempotency import IDEMPOTENCY_KEY, idempotency_key
from gateway.api.serializers import NoBody, output_of
from gateway.api.views import ApiView


class CommandCancelView(ApiView):
    required_permissions: ClassVar = {"POST": "commands.cancel_own_command"}

    @extend_schema(request=None, responses={202: CommandOutput})
    def post(self, request: SignedInRequest, command_id: UUID) -> Response:
        """Ask for the end of a command. The runner has the last word on whether it could still be stopped."""
        self.read_body(request, NoBody)
        command = command_cancel(command=command_get(user=request.user, command_id=command_id))
        return Response(output_of(CommandOutput, command), status=202)


class CommandRetryView(ApiView):
    required_permissions: ClassVar = {"POST": "commands.submit_command"}

    @extend_schema(
        request=RetryInput,
        responses={201: CommandOutput},
        parameters=[IDEMPOTENCY_KEY],
        examples=[
            OpenApiExample("After the last stage that succeeded", {}, request_only=True),
            OpenApiExample("All of it", {"from": "start"}, request_only=True),
        ],
    )
    def post(self, request: SignedInRequest, command_id: UUID) -> Response:
        """Repeat a command that has ended, as a new one. What had succeeded is not done again, unless you want it."""
        key = idempotency_key(request)
        from_start = "from" in self.read_body(request, RetryInput)
        command = command_get(user=request.user, command_id=command_id)
        again = command_retry(user=request.user, command=command, from_start=from_start, idempotency_key=key)
        data = output_of(CommandOutput, as_submitted(again))
        return Response(data, status=201, headers={"Location": data["links"]["self"]})


class BulkSubmitView(ApiView):
    required_permissions: ClassVar = {"POST": "commands.submit_command"}

    @extend_schema(
        request=BulkSubmitInput,
        responses=BulkSubmitOutput,
        parameters=[IDEMPOTENCY_KEY],
        examples=[
            OpenApiExample(
                "Two commands", {"commands": [{"text": "echo Merhaba"}, {"text": "calc 6*7"}]}, request_only=True
            )
        ],
    )
    def post(self, request: SignedInRequest) -> Response:
        """Send up to 100 commands. Each gets an answer of its own, and none blocks another."""
        return answer_once(request, lambda: self._begin(request))

    def _begin(self, request: SignedInRequest) -> Callable[[], Response]:
        items = [self._checked(item) for item in self.read_body(request, BulkSubmitInput)["commands"]]

        def create() -> Response:
            outcomes = commands_submit(user=request.user, items=items)
            return Response(
                {"results": [{"index": index} | item_output(each, 201) for index, each in enumerate(outcomes)]}
            )

        return create

    def _checked(self, item: Any) -> dict[str, Any] | APIException:
        body = CommandInput(data=item, context=self.get_serializer_context())
        try:
            body.is_valid(raise_exception=True)
        except ValidationError as error:
            return error
        values: dict[str, Any] = body.validated_data
        return values


class BulkCancelView(ApiView):
    required_permissions: ClassVar = {"POST": "commands.cancel_own_command"}

    @extend_schema(
        request=BulkCancelInput,
        responses=BulkCancelOutput,
        examples=[
            OpenApiExample("By ids", {"ids": ["01a20720-232a-707e-b013-58f64b27eff2"]}, request_only=True),
            OpenApiExample("All with a tag", {"filter": {"tag": "demo"}}, request_only=True),
        ],
    )
    def post(self, request: SignedInRequest) -> Response:
        """Ask for the end of up to 100 commands, by ids or by a filter. Each gets an answer of its own."""
        body = self.read_body(request, BulkCancelInput)
        ids, more = body.get("ids", []), False
        if "filter" in body:
            ids, more = cancellable_ids(user=request.user, filters=filters_of(body["filter"]))
        outcomes = commands_cancel(user=request.user, ids=ids)
        results = [{"id": each} | item_output(outcome, 202) for each, outcome in zip(ids, outcomes, strict=True)]
        return Response({"results": results, "more": more})
