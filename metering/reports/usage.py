"""The usage report: sums by bucket of time and by dimensions, from days where the range allows, else quarter hours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from accounts.models import ApiKey, Organisation, Project
from metering.aggregation.rebuilding import UnalignedRangeError
from metering.buckets import Granularity, hour_start, is_midnight, midnight
from metering.models import Meter
from metering.quarter_hours import is_aligned
from metering.reports.choosing import choose_meters

# What usage can be grouped by, and how that reads in SQL. Any other name is that of a label.
GROUPS = {"meter": "s.meter_id", "model": "s.model", "project": "s.project_id", "api_key": "s.api_key_id"}
LABEL_GROUP = "s.labels ->> %s::text"

# The places in braces are filled from the constants of this module only; values are parameters.
USAGE = """
SELECT {bucket} AS bucket, {groups} trim_scale(sum(u.value)), sum(u.count)::bigint
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
    "models": "AND s.model = ANY(%s)",
    "project_ids": "AND s.project_id = ANY(%s)",
    "api_key_ids": "AND s.api_key_id = ANY(%s)",
}
LABEL_FILTER = "AND s.labels @> jsonb_build_object(%s::text, %s::text)"


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """What to look at; an empty member leaves that dimension open. Ids are primary keys."""

    meters: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    project_ids: tuple[int, ...] = ()
    api_key_ids: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One figure. `group` has a value per member of the report's `group_by`: a meter's key, a model, the public id of a
    project or key, a label's text; empty where there is none.
    """

    # Start of the bucket; of the range for "total". In UTC.
    start: datetime
    group: tuple[str, ...]
    value: Decimal
    # Events that went into it.
    count: int


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Rows in order of bucket; a bucket without usage has none (`buckets.bucket_starts` lists them all)."""

    start: datetime
    end: datetime
    granularity: Granularity
    group_by: tuple[str, ...]
    rows: tuple[UsageRow, ...]
    # Member of group_by -> value -> what people call it; a value that is missing there is its own name.
    names: Mapping[str, Mapping[str, str]]


EVERYTHING = UsageFilter()


def usage(
    organisation: Organisation,
    *,
    start: datetime,
    end: datetime,
    granularity: Granularity,
    group_by: Sequence[str] = ("meter",),
    filters: UsageFilter = EVERYTHING,
) -> UsageReport:
    """Usage in [start, end), both on quarter hours. Raises a DomainError for what cannot be added up."""
    if not (is_aligned(start) and is_aligned(end)):
        raise UnalignedRangeError
    groups = tuple(dict.fromkeys(group_by))
    meters = choose_meters(filters.meters, is_split="meter" in groups)
    found = _query(organisation, start, end, granularity, groups, filters, [meter.pk for meter in meters])
    readers, names = _readers(organisation, groups, found, meters)
    rows = tuple(
        UsageRow(
            start=_bucket_start(bucket, start, granularity, organisation.zone),
            group=tuple(read(value) for read, value in zip(readers, values, strict=True)),
            value=value,
            count=count,
        )
        for bucket, *values, value, count in found
    )
    return UsageReport(start, end, granularity, groups, rows, names)


def _query(
    organisation: Organisation,
    start: datetime,
    end: datetime,
    granularity: Granularity,
    groups: tuple[str, ...],
    filters: UsageFilter,
    meter_ids: list[int],
) -> list[tuple[Any, ...]]:
    by_day = granularity in DAY_BUCKETS and _days_serve(organisation, start, end)
    zone = organisation.zone
    bounds = [start.astimezone(zone).date(), end.astimezone(zone).date()] if by_day else [start, end]
    columns = [GROUPS.get(name, LABEL_GROUP) for name in groups]
    conditions, values = _conditions(filters)
    sql = USAGE.format(
        bucket=(DAY_BUCKETS if by_day else INTERVAL_BUCKETS)[granularity],
        groups="".join(f"{column}, " for column in columns),
        totals="usage_day" if by_day else "usage_interval",
        time="day" if by_day else "starts_at",
        filters=conditions,
        positions=", ".join(str(number + 1) for number in range(len(groups) + 1)),
    )
    zones = [zone.key] if granularity in ZONED and not by_day else []
    labels = [name for name in groups if name not in GROUPS]
    params = [*zones, *labels, organisation.pk, organisation.pk, *bounds, meter_ids, *values]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def _days_serve(organisation: Organisation, start: datetime, end: datetime) -> bool:
    """Whether whole days of the organisation make up the range, and its days are counted in its present zone."""
    zone = organisation.zone
    if organisation.days_zone != organisation.time_zone:
        return False
    return is_midnight(start, zone) and is_midnight(end, zone)


def _conditions(filters: UsageFilter) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for name, condition in FILTERS.items():
        wanted = getattr(filters, name)
        if wanted:
            conditions.append(condition)
            values.append(list(wanted))
    for label, text in filters.labels.items():
        conditions.append(LABEL_FILTER)
        values += [label, text]
    return " ".join(conditions), values


def _bucket_start(
    bucket: date | datetime | None, start: datetime, granularity: Granularity, zone: ZoneInfo
) -> datetime:
    if bucket is None:
        return start.astimezone(UTC)
    if not isinstance(bucket, datetime):
        return midnight(bucket, zone)
    return hour_start(bucket, zone) if granularity == "hour" else bucket.astimezone(UTC)


type _Reader = Callable[[Any], str]


def _readers(
    organisation: Organisation, groups: tuple[str, ...], found: list[tuple[Any, ...]], meters: Sequence[Meter]
) -> tuple[list[_Reader], dict[str, dict[str, str]]]:
    """How to turn each grouped column into the value that leaves the house, and what those values are called."""
    readers: list[_Reader] = []
    names: dict[str, dict[str, str]] = {}
    for number, name in enumerate(groups, start=1):
        known = _known(organisation, name, {row[number] for row in found}, meters)
        if known is None:
            readers.append(lambda value: value or "")
        else:
            readers.append(_reader_of(known))
            names[name] = dict(known.values())
    return readers, names


def _reader_of(known: dict[Any, tuple[str, str]]) -> _Reader:
    return lambda value: known[value][0] if value in known else ""


def _known(
    organisation: Organisation, group: str, ids: set[Any], meters: Sequence[Meter]
) -> dict[Any, tuple[str, str]] | None:
    """Id -> public value and name, for the groups that are kept by id; None for those that are text already."""
    if group == "meter":
        return {meter.pk: (meter.key, meter.name) for meter in meters if meter.pk in ids}
    if group == "project":
        rows = Project.objects.for_organisation(organisation).filter(pk__in=ids)
        return {pk: (public_id, name) for pk, public_id, name in rows.values_list("pk", "public_id", "name")}
    if group == "api_key":
        keys = ApiKey.objects.for_organisation(organisation).filter(pk__in=ids - {None})
        return {pk: (public_id, name) for pk, public_id, name in keys.values_list("pk", "public_id", "name")}
    return None
