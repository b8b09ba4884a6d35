"""Reading totals for the usage report: one query for each way in which the meters asked for are put together.

Sums, counts and averages share one. The largest of the largest, the latest by time, and digests told apart over the
union each have their own; none is ever made of figures that cannot be put together. Days serve where the range allows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from accounts.models import Organisation
from metering.buckets import Granularity, is_midnight
from metering.exact import average
from metering.models import Aggregation, Meter
from metering.models.meters import SUMMED

# What usage can be grouped by, and how that reads in SQL. Any other name is that of a label.
GROUPS = {"meter": "s.meter_id", "model": "s.model", "project": "s.project_id", "api_key": "s.api_key_id"}
LABEL_GROUP = "s.labels ->> %s::text"

# The places in braces are filled from the constants of this module only; values are parameters.
USAGE = """
SELECT {bucket} AS bucket, {groups} {figures}
FROM series s JOIN {totals} u ON u.organisation_id = s.organisation_id AND u.series_id = s.id
WHERE s.organisation_id = %s AND u.organisation_id = %s AND u.{time} >= %s AND u.{time} < %s
  AND s.meter_id = ANY(%s) {filters}
GROUP BY {positions} ORDER BY {positions}"""

DAY_BUCKETS: dict[Granularity, str] = {
    "day": "u.day",
    "month": "date_trunc('month', u.day::timestamp)::date",
    "total": "NULL::date",
}
ZONED = {"hour", "day", "month"}
INTERVAL_BUCKETS: dict[Granularity, str] = {
    "interval": "u.starts_at",
    "hour": "date_trunc('hour', u.starts_at, %s)",
    "day": "(u.starts_at AT TIME ZONE %s)::date",
    "month": "date_trunc('month', u.starts_at AT TIME ZONE %s)::date",
    "total": "NULL::date",
}
FILTERS = {
    "model": "AND s.model = ANY(%s)",
    "project_id": "AND s.project_id = ANY(%s)",
    "api_key_id": "AND s.api_key_id = ANY(%s)",
}
LABEL_FILTER = "AND s.labels @> jsonb_build_object(%s::text, %s::text)"

SUMS = "trim_scale(sum(u.value)), sum(u.count)::bigint"
FIGURES = {
    Aggregation.MAX: "trim_scale(max(u.value)), sum(u.count)::bigint",
    Aggregation.MIN: "trim_scale(min(u.value)), sum(u.count)::bigint",
    Aggregation.LATEST: (
        "trim_scale((array_agg(u.value ORDER BY u.latest_at DESC, u.latest_key DESC))[1]), sum(u.count)::bigint"
    ),
}
EVENTS = "sum(u.count)::bigint"
DIFFERENT = "count(DISTINCT u.digest)::numeric"

type Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) in buckets."""

    start: datetime
    end: datetime
    granularity: Granularity


@dataclass(frozen=True, slots=True)
class Conditions:
    """Column of the series -> values it may have, none for any; label -> the text it must have."""

    columns: Mapping[str, Sequence[Any]]
    labels: Mapping[str, str]

    def sql(self) -> tuple[str, list[Any]]:
        wanted = {name: list(values) for name, values in self.columns.items() if values}
        conditions = [FILTERS[name] for name in wanted] + [LABEL_FILTER] * len(self.labels)
        return " ".join(conditions), [*wanted.values(), *(part for pair in self.labels.items() for part in pair)]


def read_figures(
    organisation: Organisation, span: Span, groups: Sequence[str], conditions: Conditions, meters: Sequence[Meter]
) -> list[Row]:
    """(bucket, a column per group, value, events) in the order of buckets.

    Buckets are instants or days of the organisation, None for "total". Without "meter" among the groups, meters of one
    way only.
    """
    ways: dict[str, list[Meter]] = {}
    for meter in meters:
        ways.setdefault("sums" if meter.aggregation in SUMMED else meter.aggregation, []).append(meter)
    found = [_read(organisation, span, groups, conditions, way, chosen) for way, chosen in ways.items()]
    rows = [row for part in found for row in part]
    if len(found) > 1 and span.granularity != "total":
        rows.sort(key=lambda row: row[0])
    return rows


def _read(
    organisation: Organisation,
    span: Span,
    groups: Sequence[str],
    conditions: Conditions,
    way: str,
    meters: Sequence[Meter],
) -> list[Row]:
    def query(figures: str, *, unique: bool = False) -> list[Row]:
        return _query(organisation, span, groups, conditions, [meter.pk for meter in meters], figures, unique=unique)

    if way == "sums":
        return _with_averages(query(SUMS), groups, meters)
    if way == Aggregation.UNIQUE_COUNT:
        different = {tuple(places): value for *places, value in query(DIFFERENT, unique=True)}
        return [(*places, different[tuple(places)], events) for *places, events in query(EVENTS)]
    return query(FIGURES[Aggregation(way)])


def _with_averages(rows: list[Row], groups: Sequence[str], meters: Sequence[Meter]) -> list[Row]:
    averages = {meter.pk for meter in meters if meter.aggregation == Aggregation.AVERAGE}
    if not averages:
        return rows
    place = groups.index("meter") + 1 if "meter" in groups else None
    return [
        (*row[:-2], average(row[-2], row[-1]), row[-1]) if place is None or row[place] in averages else row
        for row in rows
    ]


def _query(
    organisation: Organisation,
    span: Span,
    groups: Sequence[str],
    conditions: Conditions,
    meter_ids: list[int],
    figures: str,
    *,
    unique: bool,
) -> list[Row]:
    by_day = span.granularity in DAY_BUCKETS and _days_serve(organisation, span)
    zone = organisation.zone
    bounds: list[Any] = [span.start, span.end]
    if by_day:
        bounds = [at.astimezone(zone).date() for at in (span.start, span.end)]
    columns = [GROUPS.get(name, LABEL_GROUP) for name in groups]
    filters, values = conditions.sql()
    sql = USAGE.format(
        bucket=(DAY_BUCKETS if by_day else INTERVAL_BUCKETS)[span.granularity],
        groups="".join(f"{column}, " for column in columns),
        figures=figures,
        totals=TABLES[unique, by_day],
        time="day" if by_day else "starts_at",
        filters=filters,
        positions=", ".join(str(number + 1) for number in range(len(groups) + 1)),
    )
    zones = [zone.key] if span.granularity in ZONED and not by_day else []
    labels = [name for name in groups if name not in GROUPS]
    params = [*zones, *labels, organisation.pk, organisation.pk, *bounds, meter_ids, *values]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


# Whether values are told apart, whether days serve.
TABLES = {
    (False, False): "usage_interval",
    (False, True): "usage_day",
    (True, False): "usage_unique",
    (True, True): "usage_unique_day",
}


def _days_serve(organisation: Organisation, span: Span) -> bool:
    """Whether whole days of the organisation make up the range, and its days are counted in its present zone."""
    zone = organisation.zone
    if organisation.days_zone != organisation.time_zone:
        return False
    return is_midnight(span.start, zone) and is_midnight(span.end, zone)
