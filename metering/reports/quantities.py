"""What billing rates: exact sums per meter and model between the instants at which prices or phases change.

Of a meter that is no sum there is one figure for the whole period: its parts could not be put together again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from accounts.models import Organisation, Project
from metering.aggregation.members import Sql
from metering.aggregation.rebuilding import UnalignedRangeError
from metering.buckets import bucket_of, day_ceiling, is_midnight
from metering.quarter_hours import is_aligned
from metering.reports.choosing import all_meters
from metering.reports.usage import UsageFilter, usage

# Series are added up before they are named: there are many rows to a series. Every row says in which zone the days were
# counted when the statement looked.
QUANTITIES = """
WITH totals AS ({pieces}),
sums AS MATERIALIZED (SELECT series_id, part, sum(value) AS value FROM totals GROUP BY series_id, part),
named AS (
    SELECT s.meter_id, s.model, part, trim_scale(sum(value)) AS value{labels}
    FROM sums JOIN series s ON s.organisation_id = %s AND s.id = series_id
    WHERE s.meter_id = ANY(%s) GROUP BY s.meter_id, s.model, part{positions}
)
SELECT o.days_zone, named.* FROM accounts_organisation o LEFT JOIN named ON true WHERE o.id = %s"""
QUARTER_HOURS = """SELECT series_id, width_bucket(starts_at, %s::timestamptz[]) AS part, value FROM usage_interval
WHERE organisation_id = %s AND starts_at >= %s AND starts_at < %s"""
DAYS = """SELECT series_id, width_bucket(day, %s::date[]) AS part, value FROM usage_day
WHERE organisation_id = %s AND day >= %s AND day < %s"""

# What a quantity can be kept apart by besides labels.
PROJECT = "project"
PROJECT_COLUMN, LABEL_COLUMN = ", s.project_id", ", s.labels ->> %s::text"
FIRST_LABEL = 5


@dataclass(frozen=True, slots=True)
class Quantity:
    """What one meter came to for one model in [start, end), a part of the range between two splits."""

    meter_key: str
    model: str
    start: datetime
    end: datetime
    value: Decimal
    # Of the dimensions asked for, those that the usage has.
    labels: Mapping[str, str] = field(default_factory=dict)


def quantities(
    organisation: Organisation,
    *,
    start: datetime,
    end: datetime,
    splits: Sequence[datetime] = (),
    dimensions: Sequence[str] = (),
) -> list[Quantity]:
    """Sums over [start, end), cut at those splits that lie inside; additive meters only.

    Kept apart by the `dimensions`: labels of the series, or `project`, whose public id it is. Parts without usage have
    no entry. All instants must be quarter hours, so that no reading is ever divided.
    """
    inside = sorted({at for at in splits if start < at < end})
    edges = [start, *inside, end]
    if not all(is_aligned(at) for at in edges):
        raise UnalignedRangeError
    meters = {meter.pk: meter.key for meter in all_meters() if meter.is_additive}
    label = labelling(organisation, dimensions)
    found = [
        Quantity(meters[meter], model, edges[part - 1], edges[part], value, label(values))
        for meter, model, part, value, *values in _sums(organisation, edges, list(meters), dimensions)
    ]
    return in_order(found)


def period_values(organisation: Organisation, *, start: datetime, end: datetime) -> list[Quantity]:
    """The figure of each meter that is no sum over the whole of [start, end): largest, latest, different values, ….

    One quantity per meter, over all models and labels; a meter that read nothing has none. It is one reading, which
    begins with the period: the price in force then holds for all of it, whatever changes within.
    """
    keys = tuple(meter.key for meter in all_meters() if not meter.is_additive)
    if not keys:
        return []
    report = usage(organisation, start=start, end=end, granularity="total", filters=UsageFilter(meters=keys))
    return in_order([Quantity(row.group[0], "", start, end, row.value) for row in report.rows])


def in_order(found: Sequence[Quantity]) -> list[Quantity]:
    """By meter, model, time and labels."""
    return sorted(found, key=lambda one: (one.meter_key, one.model, one.start, sorted(one.labels.items())))


def label_columns(dimensions: Sequence[str]) -> Sql:
    """A column of the series `s` for each dimension, as an addition to a list of four."""
    text = "".join(PROJECT_COLUMN if name == PROJECT else LABEL_COLUMN for name in dimensions)
    return Sql(text, tuple(name for name in dimensions if name != PROJECT))


def label_positions(dimensions: Sequence[str]) -> str:
    """The numbers of those columns, as an addition to what is grouped by."""
    return "".join(f", {FIRST_LABEL + place}" for place in range(len(dimensions)))


def labelling(organisation: Organisation, dimensions: Sequence[str]) -> Callable[[Sequence[Any]], dict[str, str]]:
    """How to turn what those columns hold into labels; what has none is left out."""
    projects: dict[Any, str] = {}
    if PROJECT in dimensions:
        projects = dict(Project.objects.for_organisation(organisation).values_list("pk", "public_id"))

    def label(values: Sequence[Any]) -> dict[str, str]:
        pairs = zip(dimensions, values, strict=True)
        texts = {name: projects.get(value) if name == PROJECT else value for name, value in pairs}
        return {name: text for name, text in texts.items() if text is not None}

    return label


def _sums(
    organisation: Organisation, edges: list[datetime], meters: list[int], dimensions: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Meter, model, number of the part, sum and labels. Where the organisation's days have moved to another zone since
    it was loaded, the question is put again for that zone."""
    labels = label_columns(dimensions)
    zone = organisation.days_zone
    while True:
        pieces = _pieces(organisation, edges, ZoneInfo(zone))
        statement = QUANTITIES.format(
            pieces=" UNION ALL ".join(sql for sql, _ in pieces),
            labels=labels.text,
            positions=label_positions(dimensions),
        )
        values = [*(value for _, params in pieces for value in params), *labels.params]
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
