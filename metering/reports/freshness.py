"""How recent the figures are: what is not in the totals yet, when the last events came in, how fast tokens flow now."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from accounts.models import Organisation
from accounts.remembering import remember, remembered
from metering.aggregation.members import Sql
from metering.aggregation.rules import event_types, rules_between
from metering.aggregation.statement import readings, with_corrections
from metering.models import IngestBatch, Meter
from metering.quarter_hours import floor
from metering.reports.choosing import all_meters, token_meters

LIVE_MINUTES = 5
# Up to this many recent events are added up one by one; beyond it the quarter hours are precise enough.
LIVE_EVENTS = 20_000

EVENTS_BETWEEN = """
SELECT (SELECT count(*) FROM event
        WHERE organisation_id = %s AND batch_id = ANY(%s) AND receipt_month = ANY(%s) AND time >= %s AND time < %s)
     + (SELECT count(*) FROM event_correction
        WHERE organisation_id = %s AND batch_id = ANY(%s) AND time >= %s AND time < %s)"""

RECENT_EVENTS = """
SELECT organisation_id, type, project_id, api_key_id, time, data, 1 AS sign FROM event
WHERE organisation_id = %s AND batch_id = ANY(%s) AND receipt_month = ANY(%s) AND time >= %s AND time < %s
  AND type = ANY(%s)"""
RECENT_CORRECTIONS = """
c.organisation_id = %s AND c.batch_id = ANY(%s) AND c.time >= %s AND c.time < %s AND c.type = ANY(%s)"""
TOKENS_OF_EVENTS = "WITH {readings} SELECT coalesce(sum(value), 0) FROM keyed"

TOKENS_OF_INTERVALS = """
SELECT coalesce(sum(u.value), 0)
FROM series s JOIN usage_interval u ON u.organisation_id = s.organisation_id AND u.series_id = s.id
WHERE s.organisation_id = %s AND u.organisation_id = %s AND u.starts_at >= %s AND u.starts_at < %s
  AND s.meter_id = ANY(%s)"""


@dataclass(frozen=True, slots=True)
class LiveRate:
    """Tokens used in [start, end), the last complete minutes."""

    start: datetime
    end: datetime
    tokens: Decimal

    @property
    def per_minute(self) -> Decimal:
        minutes = Decimal((self.end - self.start) // timedelta(minutes=1))
        return self.tokens / minutes if minutes else Decimal(0)


def pending_events(organisation: Organisation, *, start: datetime, end: datetime) -> int:
    """How many accepted events of [start, end), and corrections of such, are not in the totals yet."""
    batches = [
        (batch.pk, batch.receipt_month)
        for batch in _pending_batches(organisation)
        if batch.first_time < end and batch.last_time >= start
    ]
    if not batches:
        return 0
    with connection.cursor() as cursor:
        places = _places(batches)
        cursor.execute(EVENTS_BETWEEN, [organisation.pk, *places, start, end, organisation.pk, places[0], start, end])
        return int(cursor.fetchone()[0])


def look_up_pending(organisations: Iterable[Organisation]) -> None:
    """Remember for many organisations at once what is not in the totals yet."""
    for organisation, batches in _pending_batches_of(organisations).items():
        remember(_pending_batches, organisation, answer=batches)


@remembered
def _pending_batches(organisation: Organisation) -> list[IngestBatch]:
    return _pending_batches_of([organisation])[organisation]


def _pending_batches_of(organisations: Iterable[Organisation]) -> dict[Organisation, list[IngestBatch]]:
    by_organisation: dict[int, list[IngestBatch]] = defaultdict(list)
    for batch in IngestBatch.objects.pending().filter(organisation__in=organisations):
        by_organisation[batch.organisation_id].append(batch)
    return {organisation: by_organisation[organisation.pk] for organisation in organisations}


def last_received_at(organisation: Organisation) -> datetime | None:
    """When the latest batch of an organisation came in; None: never."""
    latest = IngestBatch.objects.filter(organisation=organisation).order_by("-received_at")
    return latest.values_list("received_at", flat=True).first()


def live_rate(organisation: Organisation, now: datetime) -> LiveRate:
    """Tokens in the last five complete minutes, from the events themselves and their corrections, folded or not.

    Where there are too many to add up one by one, from the quarter hours that are running and just past.
    """
    end = now.replace(second=0, microsecond=0)
    start = end - timedelta(minutes=LIVE_MINUTES)
    recent = IngestBatch.objects.filter(organisation=organisation, received_at__gte=start, last_time__gte=start)
    batches = list(recent.values_list("pk", "receipt_month", "event_count"))
    if not batches:
        return LiveRate(start, end, Decimal(0))
    counted = token_meters()
    meters = [meter for meter in all_meters() if meter.key in counted]
    if sum(count for *_, count in batches) > LIVE_EVENTS:
        return _rate_of_intervals(organisation, meters, end)
    tokens = _tokens_of_events(organisation, meters, [(pk, month) for pk, month, _ in batches], start, end)
    return LiveRate(start, end, tokens)


def _tokens_of_events(
    organisation: Organisation, meters: list[Meter], batches: list[tuple[int, Any]], start: datetime, end: datetime
) -> Decimal:
    """As folding reads them: by the definitions in force, their conditions, and what corrections change."""
    mine = {meter.pk for meter in meters}
    # All in one sum: what would tell series apart need not be read.
    rules = [replace(rule, dimensions=()) for rule in rules_between(start, end) if rule.meter_id in mine]
    if not rules:
        return Decimal(0)
    ids, months = _places(batches)
    types = event_types(rules)
    events = Sql(RECENT_EVENTS, (organisation.pk, ids, months, start, end, types))
    corrections = Sql(RECENT_CORRECTIONS, (organisation.pk, ids, start, end, types))
    found = readings(with_corrections(events, corrections), rules, is_signed=True)
    with connection.cursor() as cursor:
        cursor.execute(TOKENS_OF_EVENTS.format(readings=found.text), found.params)
        tokens: Decimal = cursor.fetchone()[0]
    return tokens


def _places(batches: list[tuple[int, Any]]) -> list[list[Any]]:
    """Ids of batches and the partitions that hold them, as parameters."""
    return [[pk for pk, _ in batches], sorted({month for _, month in batches})]


def _rate_of_intervals(organisation: Organisation, meters: list[Meter], end: datetime) -> LiveRate:
    start = floor(end - timedelta(minutes=LIVE_MINUTES))
    params: list[Any] = [organisation.pk, organisation.pk, start, end, [meter.pk for meter in meters]]
    with connection.cursor() as cursor:
        cursor.execute(TOKENS_OF_INTERVALS, params)
        return LiveRate(start, end, cursor.fetchone()[0])
