"""GET /v1/usage: the figures of the usage page for machines, exact, in pages of buckets."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import resolve_organisation
from accounts.models import Scope
from metering.aggregation import lag
from metering.api import usage_schema
from metering.api.usage_parameters import read_parameters
from metering.exact import exact_text
from metering.reports import UsageReport, UsageRow, usage

# In UTC with a Z, so that nothing in it needs escaping.
CURSOR = "%Y-%m-%dT%H:%M:%SZ"


class UsageView(APIView):
    required_scopes = {"GET": Scope.USAGE_READ}

    @extend_schema(**usage_schema.GET)
    def get(self, request: Request) -> Response:
        now = timezone.now()
        organisation = resolve_organisation(request)
        asked = read_parameters(request.query_params, organisation, now)
        starts = asked.page_of_buckets(organisation.zone)
        page, following = starts[: asked.limit], starts[asked.limit :]
        end = following[0] if following else asked.end
        report = usage(
            organisation,
            start=asked.page_start,
            end=end,
            granularity=asked.granularity,
            group_by=asked.group_by,
            filters=asked.filters,
        )
        edges = dict(zip(page, [*page[1:], end], strict=True))
        return Response(
            {
                "organisation": organisation.public_id,
                "time_zone": organisation.time_zone,
                "from": asked.start.astimezone(organisation.zone),
                "to": asked.end.astimezone(organisation.zone),
                "granularity": asked.granularity,
                "group_by": report.group_by,
                "pending_events": lag(now, organisation).pending_events,
                "names": report.names,
                "items": [
                    _item(row, report, max(row.start, asked.start), edges[row.start], organisation.zone)
                    for row in report.rows
                ],
                "next_cursor": following[0].astimezone(UTC).strftime(CURSOR) if following else None,
            }
        )


def _item(row: UsageRow, report: UsageReport, start: datetime, end: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """One figure: the part of its bucket that lies in the range, its dimensions, and an exact decimal as text."""
    groups = {name: value or None for name, value in zip(report.group_by, row.group, strict=True)}
    local = {"start": start.astimezone(zone), "end": end.astimezone(zone)}
    return {**local, **groups, "value": exact_text(row.value), "events": row.count}
