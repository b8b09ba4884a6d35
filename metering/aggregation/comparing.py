"""Checking totals: recompute them from the events of folded batches and report every difference.

One statement per organisation and month sees events and totals at one instant, so that folding may go on meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from django.db import connection, transaction

from accounts.models import Organisation
from metering import quarter_hours
from metering.aggregation.statement import Sql, event_types, readings, rules_between, with_corrections
from metering.models import DroppedMonth

# Events and batches are joined by hashing: a table without statistics looks small and would be read once per batch.
PLANNER = "SET LOCAL enable_nestloop = off; SET LOCAL jit = off; SET LOCAL work_mem = '64MB'"

# What was folded of one organisation between two instants.
FOLDED_EVENTS = """
SELECT e.organisation_id, e.type, e.project_id, e.api_key_id, e.time, e.data, 1 AS sign
FROM event e JOIN ingest_batch b
  ON b.organisation_id = e.organisation_id AND b.id = e.batch_id AND b.receipt_month = e.receipt_month
WHERE b.organisation_id = %s AND b.folded_at IS NOT NULL AND b.first_time < %s AND b.last_time >= %s
  AND e.time >= %s AND e.time < %s AND e.type = ANY(%s)"""

FOLDED_CORRECTIONS = """
c.organisation_id = %s AND c.time >= %s AND c.time < %s AND c.type = ANY(%s) AND EXISTS (
    SELECT FROM ingest_batch b
    WHERE b.organisation_id = c.organisation_id AND b.id = c.batch_id AND b.folded_at IS NOT NULL)"""

# Everything that folded events or totals cover.
EXTENT = """
SELECT least((SELECT min(first_time) FROM ingest_batch WHERE organisation_id = %s AND folded_at IS NOT NULL),
             (SELECT min(starts_at) FROM usage_interval WHERE organisation_id = %s)),
       greatest((SELECT max(last_time) FROM ingest_batch WHERE organisation_id = %s AND folded_at IS NOT NULL),
                (SELECT max(starts_at) FROM usage_interval WHERE organisation_id = %s))"""

COMPARE_INTERVALS = """
WITH {readings},
kept AS (
    SELECT series_id, starts_at, value, count FROM usage_interval
    WHERE organisation_id = %s AND starts_at >= %s AND starts_at < %s
)
SELECT series_id, starts_at, keyed.value, keyed.count, kept.value, kept.count
FROM keyed FULL JOIN kept USING (series_id, starts_at)
WHERE keyed.value IS DISTINCT FROM kept.value OR keyed.count IS DISTINCT FROM kept.count
ORDER BY starts_at, series_id"""

NO_READINGS = """
keyed AS (SELECT series_id, starts_at, value, count FROM usage_interval WHERE false)"""

COMPARE_DAYS = """
WITH zone AS (SELECT days_zone FROM accounts_organisation WHERE id = %s),
expected AS (
    SELECT series_id, (starts_at AT TIME ZONE (SELECT days_zone FROM zone))::date AS day,
           sum(value) AS value, sum(count)::bigint AS count
    FROM usage_interval WHERE organisation_id = %s GROUP BY 1, 2
),
kept AS (SELECT series_id, day, value, count FROM usage_day WHERE organisation_id = %s)
SELECT series_id, day, expected.value, expected.count, kept.value, kept.count
FROM expected FULL JOIN kept USING (series_id, day)
WHERE (expected.value IS DISTINCT FROM kept.value OR expected.count IS DISTINCT FROM kept.count)
ORDER BY day, series_id"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A total that is not what its events (or, for a day, its quarter hours) say. None: there is none on that side."""

    organisation_id: int
    series_id: str
    period: Literal["interval", "day"]
    # Start of the quarter hour, or the day in the organisation's zone.
    at: datetime | date
    expected_value: Decimal | None
    expected_count: int | None
    value: Decimal | None
    count: int | None


def compare_totals(
    organisation: Organisation | None = None, start: datetime | None = None, end: datetime | None = None
) -> list[Difference]:
    """Every difference between totals and events, and between days and quarter hours; empty is good.

    `start` and `end` bound the quarter hours that are compared; days are always compared whole. Quarter hours of which
    events were dropped are left out: see `DroppedMonth.objects.events_kept_from`.
    """
    organisations = Organisation.objects.order_by("pk") if organisation is None else [organisation]
    return [
        difference
        for one in organisations
        for difference in (*_compare_intervals(one, start, end), *_compare_days(one))
    ]


def folded_events(organisation: Organisation, start: datetime, end: datetime) -> Sql | None:
    """The two expressions of `statement.readings` over what is folded of a range; None when no meter reads it."""
    rules = rules_between(start, end)
    if not rules:
        return None
    types = event_types(rules)
    events = Sql(FOLDED_EVENTS, (organisation.pk, end, start, start, end, types))
    corrections = Sql(FOLDED_CORRECTIONS, (organisation.pk, start, end, types))
    return readings(with_corrections(events, corrections), rules, is_signed=True)


def _compare_intervals(
    organisation: Organisation, start: datetime | None, end: datetime | None
) -> Iterator[Difference]:
    kept_from = DroppedMonth.objects.events_kept_from()
    start = max(filter(None, (start, kept_from)), default=None)
    for first, last in _months(organisation, start, end):
        keyed = folded_events(organisation, first, last) or Sql(NO_READINGS)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(PLANNER)
            sql = COMPARE_INTERVALS.format(readings=keyed.text)
            cursor.execute(sql, [*keyed.params, organisation.pk, first, last])
            rows = cursor.fetchall()
        if rows:
            # A month may have begun to go meanwhile; its row is there before its events are gone.
            kept_from = DroppedMonth.objects.events_kept_from()
        for series_id, at, *figures in rows:
            if kept_from is None or at >= kept_from:
                yield Difference(organisation.pk, str(series_id), "interval", at, *figures)


def _compare_days(organisation: Organisation) -> Iterator[Difference]:
    with connection.cursor() as cursor:
        cursor.execute(COMPARE_DAYS, [organisation.pk] * 3)
        rows = cursor.fetchall()
    for series_id, at, *figures in rows:
        yield Difference(organisation.pk, str(series_id), "day", at, *figures)


def _months(
    organisation: Organisation, start: datetime | None, end: datetime | None
) -> Iterator[tuple[datetime, datetime]]:
    """The range in pieces of at most a calendar month, so that each statement's size is bounded."""
    with connection.cursor() as cursor:
        cursor.execute(EXTENT, [organisation.pk] * 4)
        first, last = cursor.fetchone()
    if first is None:
        return
    at = quarter_hours.floor(first if start is None else max(start, first))
    stop = quarter_hours.floor(last) + quarter_hours.QUARTER_HOUR
    if end is not None:
        stop = min(stop, quarter_hours.ceiling(end))
    while at < stop:
        month = at.replace(day=1, hour=0, minute=0)
        following = min(stop, (month + timedelta(days=32)).replace(day=1))
        yield at, following
        at = following
