from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

MOST = 5000


class BoundedPaginator(Paginator[Any]):
    """Pages through the first MOST rows, and counts no further: what a large table has is not worth a full scan.

    What lies beyond is found by a filter.
    """

    template_name = "gateway_admin/pagination.html"

    @cached_property
    def count(self) -> int:
        return min(self._counted, MOST)

    @property
    def has_more(self) -> bool:
        return self._counted > MOST

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        counted: int = rows.order_by()[: MOST + 1].count()
        return counted
