"""Keeping series bounded: a label with ever new values must not make totals as many as events.

A meter of an organisation that has got more new series in a month than SERIES_PER_MONTH is bounded from the running
quarter hour to the month's end: the labels that no price looks at read "(other)" in its new totals, or all of its
dimensions where it has no other. Sums stay exact, and operators see it. What was counted before stays as it is.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from metering import quarter_hours
from metering.aggregation.comparing import PLANNER
from metering.aggregation.locks import rebuild_alone
from metering.aggregation.remaking import remake
from metering.aggregation.rules import rules_between
from metering.models import SeriesLimit

TOO_MANY = """
SELECT s.organisation_id, s.meter_id, count(*) FROM series s
WHERE s.first_seen_at >= %s {only} AND NOT EXISTS (
    SELECT FROM metering_serieslimit l
    WHERE l.organisation_id = s.organisation_id AND l.meter_id = s.meter_id AND l.ends_at = %s)
GROUP BY 1, 2 HAVING count(*) > %s ORDER BY 1, 2"""
ONLY = "AND (s.organisation_id, s.meter_id) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))"


def bound_series(now: datetime, *, only: Collection[tuple[int, int]] | None = None) -> list[SeriesLimit]:
    """Bound what has too many new series this month (UTC), of all or of some (organisation, meter); returns the limits
    that are new.
    """
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (month + timedelta(days=32)).replace(day=1)
    with connection.cursor() as cursor:
        pairs = [] if only is None else [list(one) for one in zip(*only, strict=True)]
        statement = TOO_MANY.format(only="" if only is None else ONLY)
        cursor.execute(statement, [month, *pairs, following, settings.SERIES_PER_MONTH])
        rows = cursor.fetchall()
    return [_bound(organisation_id, meter_id, count, now, following) for organisation_id, meter_id, count in rows]


@transaction.atomic
def _bound(organisation_id: int, meter_id: int, count: int, now: datetime, until: datetime) -> SeriesLimit:
    """Leave the row, and make anew what was counted since the quarter hour began, clocks that run ahead included."""
    start = quarter_hours.floor(now)
    ahead = timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)
    end = min(until, quarter_hours.ceiling(now + ahead) + quarter_hours.QUARTER_HOUR)
    with connection.cursor() as cursor:
        rebuild_alone(cursor, organisation_id)
        limit, _ = SeriesLimit.objects.get_or_create(
            organisation_id=organisation_id,
            meter_id=meter_id,
            ends_at=until,
            defaults={"starts_at": start, "series": count, "noticed_at": now},
        )
        cursor.execute(PLANNER)
        rules = [rule for rule in rules_between(start, end - timedelta.resolution) if rule.meter_id == meter_id]
        places = range((end - start) // quarter_hours.QUARTER_HOUR)
        if rules:
            quarters = [start + place * quarter_hours.QUARTER_HOUR for place in places]
            remake(cursor, organisation_id, quarters, rules)
    return limit
