from collections.abc import Iterator

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from accounts.models import AuditEntry
from gateway.api.csv_file import csv_answer

COLUMNS = (
    "at",
    "action",
    "actor_id",
    "actor_name",
    "credential_id",
    "address",
    "request_id",
    "target_type",
    "target_id",
    "target_name",
    "changes",
    "reason",
)
_AT_A_TIME = 1000


def audit_export(request: HttpRequest, entries: QuerySet[AuditEntry]) -> StreamingHttpResponse:
    """Return the entries as a file, the newest first."""
    name = f"audit-{timezone.now():%Y-%m-%d}.csv"
    return csv_answer(request, name=name, columns=COLUMNS, pieces=_pages(entries))


def _pages(entries: QuerySet[AuditEntry]) -> Iterator[list[AuditEntry]]:
    """Page by the key: what is written meanwhile is newer than all of this."""
    rest = entries.order_by("-pk")
    while page := list(rest[:_AT_A_TIME]):
        yield page
        rest = entries.order_by("-pk").filter(pk__lt=page[-1].pk)
