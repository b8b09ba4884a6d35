"""POST /api/v1/events and GET /api/v1/meters/<key>/query: what OpenMeter's clients expect, so that they work unchanged.

Their events are answered with 204 for everything that could be kept; what was rejected is the operator's work list.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import Scope
from metering.api import openmeter_schema
from metering.api.cloudevent_bodies import drafts_of
from metering.api.openmeter_parameters import MeterQuery, read_query
from metering.api.taking import WayIn, service_token_of, take
from metering.buckets import bucket_of, bucket_starts
from metering.exact import EXACT
from metering.formats import openmeter
from metering.reports import UsageFilter, usage

_encode = msgspec.json.Encoder(decimal_format="number").encode


class OpenMeterEventsView(WayIn):
    @extend_schema(**openmeter_schema.POST)
    def post(self, request: Request) -> HttpResponse:
        token = service_token_of(request)
        take(openmeter.in_our_words(drafts_of(request)), format="openmeter", service_token_id=token.pk)
        return HttpResponse(status=204)


class MeterQueryView(APIView):
    required_scopes = {"GET": Scope.USAGE_READ}

    @extend_schema(**openmeter_schema.GET)
    def get(self, request: Request, key: str) -> HttpResponse:
        query = read_query(request, key, timezone.now())
        body = {
            "from": query.start,
            "to": query.end,
            "windowSize": query.window_size,
            "data": list(_rows(query)),
        }
        body = {name: value for name, value in body.items() if value is not None}
        return HttpResponse(_encode(body), content_type="application/json")


def _rows(query: MeterQuery) -> Iterator[dict[str, Any]]:
    """One row per window and group, in the order of time."""
    sums = _sums(query)
    # In UTC, where every instant is one: local times repeat when clocks go back.
    starts = [at.astimezone(UTC) for at in bucket_starts(query.start, query.end, query.granularity, query.zone)]
    ends = dict(zip(starts, [*starts[1:], query.end], strict=True))
    for (window, group), value in sorted(sums.items()):
        named = {name: text or None for name, text in zip(query.group_by, group, strict=True)}
        yield {
            "value": value,
            "windowStart": max(window, query.start),
            "windowEnd": ends[window],
            "subject": _subject(query, named),
            "groupBy": {name: text for name, text in named.items() if name != "api_key"},
        }


def _sums(query: MeterQuery) -> dict[tuple[datetime, tuple[str, ...]], Decimal]:
    """Windows of the organisation's zone come as they are, those of another are put together from quarter hours."""
    is_own_zone = query.granularity == "total" or query.zone.key == query.organisation.zone.key
    report = usage(
        query.organisation,
        start=query.start,
        end=query.end,
        granularity=query.granularity if is_own_zone else "interval",
        group_by=("meter", *query.group_by),
        filters=UsageFilter(
            meters=(query.meter_key,),
            models=query.models,
            project_ids=query.project_ids,
            api_key_ids=query.api_key_ids,
            labels=query.labels,
        ),
    )
    sums: dict[tuple[datetime, tuple[str, ...]], Decimal] = {}
    for row in report.rows:
        place = (_window(row.start, query), row.group[1:])
        sums[place] = EXACT.add(sums.get(place, Decimal(0)), row.value)
    return sums


def _window(at: datetime, query: MeterQuery) -> datetime:
    """The start of the window that an instant lies in."""
    if query.granularity == "total":
        return query.start
    return bucket_of(at, query.granularity, query.zone).astimezone(UTC)


def _subject(query: MeterQuery, named: dict[str, str | None]) -> str | None:
    """The key a row is about; the organisation for usage without one; None where a row is about all subjects."""
    return (named["api_key"] or query.organisation.public_id) if "api_key" in named else None
