"""Lists of the REST API: pages by cursor, and the header that makes a request safe to send again.

A cursor is the public id of the last row of a page: nothing is skipped or repeated when rows are added meanwhile.
"""

from typing import Any

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.idempotency import LONGEST_KEY
from accounts.problems import Problem

DEFAULT_LIMIT = 50
MAXIMUM_LIMIT = 200


class CursorPagination(BasePagination):
    """`?limit=` and `?cursor=`, newest first; the answer is {"items": […], "next_cursor": "…" or null}.

    For models with a `public_id`; rows are ordered by primary key, falling.
    """

    next_cursor: str | None = None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        limit = page_limit(request)
        rows = queryset.order_by("-pk")
        if cursor := request.query_params.get("cursor"):
            last = self.rows_named(queryset.model._default_manager.all(), cursor).values_list("pk", flat=True)
            pk = queryset.filter(pk__in=last).values_list("pk", flat=True).first()
            if pk is None:
                raise Problem(400, "invalid_cursor", "That cursor does not belong to this list.")
            rows = rows.filter(pk__lt=pk)
        found = list(rows[: limit + 1])
        self.next_cursor = found[limit - 1].public_id if len(found) > limit else None
        return found[:limit]

    def rows_named(self, rows: Any, cursor: str) -> Any:
        """The row that a cursor names, for models whose public id is no column."""
        return rows.filter(public_id=cursor)

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"items": data, "next_cursor": self.next_cursor})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        cursor = {
            "type": "string",
            "nullable": True,
            "description": "Pass it as `cursor` to get the next page; null on the last.",
        }
        properties = {"items": schema, "next_cursor": cursor}
        return {"type": "object", "required": list(properties), "properties": properties}

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": MAXIMUM_LIMIT, "default": DEFAULT_LIMIT}
        return [
            {"name": "limit", "in": "query", "schema": limit, "description": "Rows per page."},
            {
                "name": "cursor",
                "in": "query",
                "schema": {"type": "string"},
                "description": "`next_cursor` of the page before.",
            },
        ]


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header; None without one."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise Problem(400, "invalid_idempotency_key", f"An Idempotency-Key has 1 to {LONGEST_KEY} characters.")
    return key


def page_limit(request: Request) -> int:
    """How many rows a page shall have."""
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAXIMUM_LIMIT:
        raise Problem(400, "invalid_limit", f"limit must be a whole number from 1 to {MAXIMUM_LIMIT}.")
    return int(text)
