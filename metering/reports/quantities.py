"""What billing rates: exact sums per meter and model between the instants at which prices or phases change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from accounts.models import Organisation
from metering.aggregation.rebuilding import UnalignedRangeError
from metering.buckets import bucket_of, day_ceiling, is_midnight
from metering.quarter_hours import is_aligned
from metering.reports.choosing import all_meters

# Series are added up before they are named: there are many rows to a series. Every row says in which zone the days were
# counted when the statement looked.
QUANTITIES = """
WITH totals AS ({pieces}),
sums AS MATERIALIZED (SELECT series_id, part, sum(value) AS value FROM totals GROUP BY series_id, part),
named AS (
    SELECT s.meter_id, s.model, part, trim_scale(sum(value)) AS value
    FROM sums JOIN series s ON s.organisation_id = %s AND s.id = series_id
    WHERE s.meter_id = ANY(%s) GROUP BY s.meter_id, s.model, part
)
SELECT o.days_zone, named.* FROM accounts_organisation o LEFT JOIN named ON true WHERE o.id = %s"""
QUARTER_HOURS = """SELECT series_id, width_bucket(starts_at, %s::timestamptz[]) AS part, value FROM usage_interval
WHERE organisation_id = %s AND starts_at >= %s AND starts_at < %s"""
DAYS = """SELECT series_id, width_bucket(day, %s::date[]) AS part, value FROM usage_day
WHERE organisation_id = %s AND day >= %s AND day < %s"""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What one meter came to for one model in [start, end), a part of the range between two splits."""

    meter_key: str
    model: str
    start: datetime
    end: datetime
    value: Decimal


def quantities(
    organisation: Organisation, *, start: datetime, end: datetime, splits: Sequence[datetime] = ()
) -> list[Quantity]:
    """Sums over [start, end), cut at those splits that lie inside; additive meters only.

    Parts without usage have no entry. All instants must be quarter hours, so that no reading is ever divided.
    """
    inside = sorted({at for at in splits if start < at < end})
    edges = [start, *inside, end]
    if not all(is_aligned(at) for at in edges):
        raise UnalignedRangeError
    meters = {meter.pk: meter.key for meter in all_meters() if meter.is_additive}
    found = [
        Quantity(meters[meter], model, edges[part - 1], edges[part], value)
        for meter, model, part, value in _sums(organisation, edges, list(meters))
    ]
    return sorted(found, key=attrgetter("meter_key", "model", "start"))


def _sums(organisation: Organisation, edges: list[datetime], meters: list[int]) -> list[tuple[int, str, int, Decimal]]:
    """Meter, model, number of the part and sum. Where the organisation's days have moved to another zone since it was
    loaded, the question is put again for that zone."""
    zone = organisation.days_zone
    while True:
        pieces = _pieces(organisation, edges, ZoneInfo(zone))
        statement = QUANTITIES.format(pieces=" UNION ALL ".join(sql for sql, _ in pieces))
        values = [value for _, params in pieces for value in params]
        with connection.cursor() as cursor:
            cursor.execute(statement, [*values, organisation.pk, meters, organisation.pk])
            rows = cursor.fetchall()
        if rows[0][0] == zone:
            return [row[1:] for row in rows if row[1] is not None]
        zone = rows[0][0]


def _pieces(organisation: Organisation, edges: list[datetime], zone: ZoneInfo) -> list[tuple[str, list[Any]]]:
    """What to read: whole days, and quarter hours before and after them; quarter hours alone where a split is no
    midnight."""
    start, *inside, end = edges
    first, last = day_ceiling(start, zone), bucket_of(end, "day", zone)
    if first >= last or not all(is_midnight(at, zone) for at in inside):
        return [(QUARTER_HOURS, [edges[:-1], organisation.pk, start, end])]
    days = [at.astimezone(zone).date() for at in edges[:-1]]
    bounds = [at.astimezone(zone).date() for at in (first, last)]
    pieces: list[tuple[str, list[Any]]] = [(DAYS, [days, organisation.pk, *bounds])]
    for begins, ends in ((start, first), (last, end)):
        if begins < ends:
            pieces.append((QUARTER_HOURS, [edges[:-1], organisation.pk, begins, ends]))
    return pieces
