"""Checking totals: recompute them from the events of folded batches and report every difference.

One statement per organisation and month sees events and totals at one instant, so that folding may go on meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import Organisation
from metering import quarter_hours
from metering.aggregation.counting import counting
from metering.aggregation.expecting import DAY_VALUES, DAYS, expected
from metering.aggregation.members import Sql
from metering.aggregation.rules import event_types, rules_between
from metering.models import DroppedMonth, MeterBackfill, Series

# Events and batches are joined by hashing: a table without statistics looks small and would be read once per batch.
PLANNER = "SET LOCAL enable_nestloop = off; SET LOCAL jit = off; SET LOCAL work_mem = '64MB'"

# Everything that folded events or totals cover.
EXTENT = """
SELECT least((SELECT min(first_time) FROM ingest_batch WHERE organisation_id = %s AND folded_at IS NOT NULL),
             (SELECT min(starts_at) FROM usage_interval WHERE organisation_id = %s)),
       greatest((SELECT max(last_time) FROM ingest_batch WHERE organisation_id = %s AND folded_at IS NOT NULL),
                (SELECT max(starts_at) FROM usage_interval WHERE organisation_id = %s))"""

COMPARE_INTERVALS = """
WITH {expected},
kept AS (
    SELECT series_id, starts_at, value, count, latest_at, latest_key FROM usage_interval
    WHERE organisation_id = %s AND starts_at >= %s AND starts_at < %s
)
SELECT series_id, starts_at, expected.value, expected.count, kept.value, kept.count, expected.meter_id
FROM expected FULL JOIN kept USING (series_id, starts_at)
WHERE (expected.value, expected.count, expected.latest_at, expected.latest_key)
      IS DISTINCT FROM (kept.value, kept.count, kept.latest_at, kept.latest_key)
ORDER BY starts_at, series_id"""

COMPARE_VALUES = """
WITH {expected},
kept AS (
    SELECT series_id, starts_at, digest FROM usage_unique
    WHERE organisation_id = %s AND starts_at >= %s AND starts_at < %s
)
SELECT series_id, starts_at, count(e.digest), NULL, count(kept.digest), NULL, NULL
FROM expected_value e FULL JOIN kept USING (series_id, starts_at, digest)
GROUP BY series_id, starts_at HAVING count(*) FILTER (WHERE e.digest IS NULL OR kept.digest IS NULL) > 0
ORDER BY starts_at, series_id"""

COMPARE_DAYS = """
WITH expected AS ({days}),
kept AS (SELECT series_id, day, value, count, latest_at, latest_key FROM usage_day WHERE organisation_id = %s)
SELECT series_id, day, expected.value, expected.count, kept.value, kept.count
FROM expected FULL JOIN kept USING (series_id, day)
WHERE (expected.value, expected.count, expected.latest_at, expected.latest_key)
      IS DISTINCT FROM (kept.value, kept.count, kept.latest_at, kept.latest_key)
ORDER BY day, series_id"""

COMPARE_DAY_VALUES = """
WITH expected AS ({values}),
kept AS (SELECT series_id, day, digest FROM usage_unique_day WHERE organisation_id = %s)
SELECT series_id, day, count(e.digest), NULL, count(kept.digest), NULL
FROM expected e FULL JOIN kept USING (series_id, day, digest)
GROUP BY series_id, day HAVING count(*) FILTER (WHERE e.digest IS NULL OR kept.digest IS NULL) > 0
ORDER BY day, series_id"""
ALL_OF_ONE = "u.organisation_id = %s"


type Period = Literal["interval", "values", "day", "day values"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A total that is not what its events (or, for a day, its quarter hours) say. None: there is none on that side.

    Of "values" and "day values", the different values themselves differ; their numbers may be the same.
    """

    organisation_id: int
    series_id: str
    period: Period
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
    events were dropped are left out (see `DroppedMonth.objects.events_kept_from`), and of a meter that a backfill lets
    begin earlier what that has not made yet. Once it is done they are compared like all others.
    """
    organisations = Organisation.objects.order_by("pk") if organisation is None else [organisation]
    return [
        difference
        for one in organisations
        for difference in (*_compare_intervals(one, start, end), *_compare_days(one))
    ]


def expected_totals(organisation: Organisation, start: datetime, end: datetime) -> Sql:
    """The expressions of `expecting.expected` over what is folded of a range."""
    rules = rules_between(start, end)
    return expected(counting(organisation.pk, start, end, event_types(rules)) if rules else None, rules)


def _compare_intervals(
    organisation: Organisation, start: datetime | None, end: datetime | None
) -> Iterator[Difference]:
    kept_from = DroppedMonth.objects.events_kept_from()
    start = max(filter(None, (start, kept_from)), default=None)
    for first, last in _months(organisation, start, end):
        found = list(_compare_range(organisation, first, last))
        if found:
            # A month may have begun to go meanwhile; its row is there before its events are gone.
            kept_from = DroppedMonth.objects.events_kept_from()
        for one in found:
            if kept_from is None or one.at >= kept_from:
                yield one


def _compare_range(organisation: Organisation, first: datetime, last: datetime) -> Iterator[Difference]:
    looked_at = timezone.now()
    under_way = [(one, one.missing_from(organisation.pk)) for one in MeterBackfill.objects.unfinished()]
    wanted = expected_totals(organisation, first, last)
    meters: dict[str, int] = {}
    periods: dict[Period, str] = {"interval": COMPARE_INTERVALS, "values": COMPARE_VALUES}
    for period, statement in periods.items():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(PLANNER)
            sql = statement.format(expected=wanted.text)
            cursor.execute(sql, [*wanted.params, organisation.pk, first, last])
            rows = cursor.fetchall()
        if rows:
            begun = MeterBackfill.objects.filter(Q(finished_at=None) | Q(finished_at__gte=looked_at))
            under_way += [(one, one.start) for one in begun.exclude(pk__in=[one.pk for one, _ in under_way])]
        if rows and under_way:
            meters |= _meters_of(organisation, {str(row[0]): row[-1] for row in rows})
        for series_id, at, *figures, _ in rows:
            meter_id = meters.get(str(series_id))
            is_missing_yet = any(
                one.meter_id == meter_id and start is not None and start <= at < one.end for one, start in under_way
            )
            if not is_missing_yet:
                yield Difference(organisation.pk, str(series_id), period, at, *figures)


def _meters_of(organisation: Organisation, known: dict[str, int | None]) -> dict[str, int]:
    """Series -> meter: those that the statement named, and those that are stored."""
    unnamed = [one for one, meter_id in known.items() if meter_id is None]
    rows = Series.objects.filter(organisation=organisation, id__in=unnamed).values_list("id", "meter_id")
    named = {one: meter_id for one, meter_id in known.items() if meter_id is not None}
    return named | {str(one): meter_id for one, meter_id in rows}


def _compare_days(organisation: Organisation) -> Iterator[Difference]:
    periods: dict[Period, str] = {
        "day": COMPARE_DAYS.format(days=DAYS.format(which=ALL_OF_ONE)),
        "day values": COMPARE_DAY_VALUES.format(values=DAY_VALUES.format(which=ALL_OF_ONE)),
    }
    for period, statement in periods.items():
        with connection.cursor() as cursor:
            cursor.execute(statement, [organisation.pk] * 2)
            rows = cursor.fetchall()
        for series_id, at, *figures in rows:
            yield Difference(organisation.pk, str(series_id), period, at, *figures)


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
