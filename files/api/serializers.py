from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from files.models import StoredFile
from gateway.api.serializers import link_to


class FileOutput(serializers.ModelSerializer[StoredFile]):
    url = serializers.SerializerMethodField(help_text="Where the content can be downloaded.")

    class Meta:
        model = StoredFile
        fields = ("id", "kind", "name", "size", "sha256", "url", "created_at")
        read_only_fields = fields

    @extend_schema_field({"type": "string", "format": "uri-reference"})
    def get_url(self, file: StoredFile) -> Any:
        return link_to("file-content", file.id)
