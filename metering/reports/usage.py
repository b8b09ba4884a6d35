"""The usage report: figures by bucket of time and by dimensions, exact for every aggregation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from accounts.models import ApiKey, Organisation, Project
from metering.aggregation.rebuilding import UnalignedRangeError
from metering.buckets import Granularity, hour_start, midnight
from metering.models import Meter
from metering.quarter_hours import is_aligned
from metering.reports.choosing import choose_meters
from metering.reports.figures import Conditions, Span, read_figures


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """What to look at; an empty member leaves that dimension open. Ids are primary keys."""

    meters: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    project_ids: tuple[int, ...] = ()
    api_key_ids: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def conditions(self) -> Conditions:
        return Conditions(
            {"model": self.models, "project_id": self.project_ids, "api_key_id": self.api_key_ids}, dict(self.labels)
        )


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
    found = read_figures(organisation, Span(start, end, granularity), groups, filters.conditions(), meters)
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
