"""Search in the archive, for what is one's own.

The archive knows nothing of users: it finds what anybody had archived. So it only says which entries there are; whose
one is and what it holds is read from the gateway's own records. What these do not know is not shown.
"""

from dataclasses import dataclass
from typing import cast

from accounts.models import User
from commands.failures import failure_sentence
from commands.models import Outcome, StageRun
from commands.pipeline.attempts import failure_of
from commands.states import Stage
from gateway.api.errors import ApiError, ErrorCode
from integrations.clients.archive import ArchiveClient, SearchRequest
from integrations.clients.dialects import client_for
from integrations.clients.errors import ServiceError
from integrations.registry import ServiceKind, choose

# Entries that the archive is asked for at once, one's own and others'.
WINDOW = 100
MAX_OFFSET = 1_000_000
BUSY_SECONDS = 2  # after which it is worth another try


@dataclass(frozen=True)
class Page:
    results: list[StageRun]
    next_offset: int | None


def archive_search(
    *,
    user: User,
    limit: int,
    offset: int,
    q: str = "",
    tags: list[str] | None = None,
    min_success_rate: float | None = None,
) -> Page:
    """Return what the user's own commands and steps had archived, in the archive's order.

    One call: a page may hold less than `limit`, even nothing, and there be more all the same. Raises ApiError
    (service_unavailable): above all, the archive has as many searches as it may have at once.
    """
    request = SearchRequest(q, tags or [], min_success_rate, WINDOW, offset)
    try:
        client = cast("ArchiveClient", client_for(choose(ServiceKind.ARCHIVE, may_probe=False)))
        found = client.search(request)
    except ServiceError as error:
        failure = failure_of(Stage.ARCHIVE, error)
        sentence = failure_sentence(failure.code, Stage.ARCHIVE, failure.cause)
        retry_after = BUSY_SECONDS if failure.busy else None
        raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, sentence, retry_after=retry_after) from error
    own = _own(user, found)
    hits = [(place, own[entry_id]) for place, entry_id in enumerate(found, start=1) if entry_id in own]
    results = [run for _place, run in hits[:limit]]
    next_offset = offset + (hits[limit - 1][0] if len(hits) > limit else WINDOW)
    is_last = len(hits) <= limit and len(found) < WINDOW
    return Page(results, None if is_last or next_offset > MAX_OFFSET else next_offset)


def _own(user: User, entry_ids: list[str]) -> dict[str, StageRun]:
    runs = StageRun.objects.filter(
        stage=Stage.ARCHIVE, outcome=Outcome.SUCCEEDED, remote_id__in=entry_ids, command__user=user
    )
    return {run.remote_id: run for run in runs.select_related("command__atlas_file", "command__result")}
