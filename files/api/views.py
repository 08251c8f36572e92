from typing import ClassVar
from uuid import UUID

from django.http import HttpResponse
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.response import Response

from accounts.requests import SignedInRequest
from files.api.serializers import FileOutput
from files.selectors import file_bytes, file_get
from gateway.api.errors import ApiError, ErrorCode
from gateway.api.negotiation import AnyAccept
from gateway.api.serializers import output_of
from gateway.api.views import ApiView


class FileView(ApiView):
    required_permissions: ClassVar = {"GET": "files.read_own_storedfile"}

    @extend_schema(responses=FileOutput)
    def get(self, request: SignedInRequest, file_id: UUID) -> Response:
        """One file of yours: what is known of it."""
        return Response(output_of(FileOutput, file_get(user=request.user, file_id=file_id)))


class FileContentView(ApiView):
    required_permissions: ClassVar = {"GET": "files.read_own_storedfile"}
    content_negotiation_class = AnyAccept

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)})
    def get(self, request: SignedInRequest, file_id: UUID) -> HttpResponse:
        """Download the content, byte for byte as the service gave it."""
        file = file_get(user=request.user, file_id=file_id)
        try:
            response = HttpResponse(file_bytes(file), content_type="application/octet-stream")
        except OSError as error:
            raise ApiError(ErrorCode.SERVICE_UNAVAILABLE) from error
        response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=file.name) or ""
        response["ETag"] = f'"{file.sha256}"'
        return response
