"""What billing rates: exact sums per meter and model between the instants at which prices or phases change.

Of a meter that is no sum there is one figure for the whole period: its parts could not be put together again. What many
organisations used can be looked up at once, by one statement for those with the same question.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from django.db import connection, transaction

from accounts.models import Organisation, Project
from accounts.remembering import remember, remembered
from metering.aggregation.members import Sql
from metering.aggregation.rebuilding import UnalignedRangeError
from metering.buckets import bucket_of, day_ceiling, is_midnight
from metering.quarter_hours import is_aligned
from metering.reports.choosing import all_meters
from metering.reports.usage import UsageFilter, usage

# Series are added up before they are named: there are many rows to a series. Each organisation is read by itself, so
# that the plan of many is the plan of one. Every row says in which zone the days were counted when it was read.
QUANTITIES = """
SELECT o.id, o.days_zone, named.* FROM accounts_organisation o LEFT JOIN LATERAL (
    SELECT s.meter_id, s.model, part, trim_scale(sum(value)) AS value{labels}
    FROM (SELECT series_id, part, sum(value) AS value FROM ({pieces}) totals GROUP BY series_id, part) sums
    JOIN series s ON s.organisation_id = o.id AND s.id = series_id
    WHERE s.meter_id = ANY(%s) GROUP BY s.meter_id, s.model, part{positions}
) named ON true WHERE o.id = ANY(%s)"""
QUARTER_HOURS = """SELECT series_id, {part} AS part, value FROM usage_interval
WHERE organisation_id = o.id AND starts_at >= %s AND starts_at < %s"""
DAYS = """SELECT series_id, {part} AS part, value FROM usage_day
WHERE organisation_id = o.id AND day >= %s AND day < %s"""
# Rows lie in the order of time, and a few pages hold a month of an organisation. The planner prefers the index's order,
# that of series, and would look each row up on a page of its own. For many organisations that is worth saying.
PAGE_BY_PAGE = "SET LOCAL enable_indexscan = off; SET LOCAL jit = off"
AS_EVER = "SET LOCAL enable_indexscan = DEFAULT; SET LOCAL jit = DEFAULT"
# Which part of the range a row is in; nothing to find out where there is one.
ONLY_PART = "1"
PART_OF_QUARTER_HOUR, PART_OF_DAY = "width_bucket(starts_at, %s::timestamptz[])", "width_bucket(day, %s::date[])"

# What a quantity can be kept apart by besides labels.
PROJECT = "project"
PROJECT_COLUMN, LABEL_COLUMN = ", s.project_id", ", s.labels ->> %s::text"
FIRST_LABEL = 5


class Quantity(msgspec.Struct, frozen=True, gc=False):
    """What one meter came to for one model in [start, end), a part of the range between two splits."""

    meter_key: str
    model: str
    start: datetime
    end: datetime
    value: Decimal
    # Of the dimensions asked for, those that the usage has.
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Question:
    """The edges of the parts of a range, in order, and what sums are kept apart by."""

    edges: tuple[datetime, ...]
    dimensions: tuple[str, ...]


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
    return list(_quantities(organisation, _question(start, end, splits, dimensions)))


def look_up_quantities(
    organisations: Iterable[Organisation],
    *,
    start: datetime,
    end: datetime,
    splits: Sequence[datetime] = (),
    dimensions: Sequence[str] = (),
) -> None:
    """Remember for many organisations at once what `quantities` answers."""
    question = _question(start, end, splits, dimensions)
    for organisation, found in _quantities_of(list(organisations), question).items():
        remember(_quantities, organisation, question, answer=found)


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


def labelling(
    organisations: Iterable[Organisation], dimensions: Sequence[str]
) -> Callable[[Sequence[Any]], dict[str, str]]:
    """How to turn what those columns hold into labels; what has none is left out."""
    projects: dict[Any, str] = {}
    if PROJECT in dimensions:
        projects = dict(Project.objects.filter(organisation__in=organisations).values_list("pk", "public_id"))

    def label(values: Sequence[Any]) -> dict[str, str]:
        pairs = zip(dimensions, values, strict=True)
        texts = {name: projects.get(value) if name == PROJECT else value for name, value in pairs}
        return {name: text for name, text in texts.items() if text is not None}

    return label


def _question(start: datetime, end: datetime, splits: Sequence[datetime], dimensions: Sequence[str]) -> _Question:
    inside = sorted({at for at in splits if start < at < end})
    edges = (start, *inside, end)
    if not all(is_aligned(at) for at in edges):
        raise UnalignedRangeError
    return _Question(edges, tuple(dimensions))


@remembered
def _quantities(organisation: Organisation, question: _Question) -> list[Quantity]:
    return _quantities_of([organisation], question)[organisation]


def _quantities_of(organisations: Sequence[Organisation], question: _Question) -> dict[Organisation, list[Quantity]]:
    meters = {meter.pk: meter.key for meter in all_meters() if meter.is_additive}
    label = labelling(organisations, question.dimensions)
    edges = question.edges
    found: dict[int, list[Quantity]] = defaultdict(list)
    for organisation_id, meter, model, part, value, *values in _sums(organisations, question, list(meters)):
        found[organisation_id].append(
            Quantity(meters[meter], model, edges[part - 1], edges[part], value, label(values))
        )
    return {organisation: in_order(found[organisation.pk]) for organisation in organisations}


def _sums(organisations: Sequence[Organisation], question: _Question, meters: list[int]) -> list[tuple[Any, ...]]:
    """Organisation, meter, model, number of the part, sum and labels. Where an organisation's days have moved to
    another zone since it was loaded, the question is put again for that zone."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for organisation in organisations:
        waiting[organisation.days_zone].append(organisation.pk)
    sums: list[tuple[Any, ...]] = []
    while waiting:
        zone, ids = waiting.popitem()
        for organisation_id, counted_in, *row in _rows(ids, question, ZoneInfo(zone), meters):
            if counted_in != zone:
                waiting[counted_in] = list({*waiting[counted_in], organisation_id})
            elif row[0] is not None:
                sums.append((organisation_id, *row))
    return sums


def _rows(ids: list[int], question: _Question, zone: ZoneInfo, meters: list[int]) -> list[tuple[Any, ...]]:
    labels = label_columns(question.dimensions)
    pieces = _pieces(question.edges, zone)
    statement = QUANTITIES.format(
        pieces=" UNION ALL ".join(piece.text for piece in pieces),
        labels=labels.text,
        positions=label_positions(question.dimensions),
    )
    read = [value for piece in pieces for value in piece.params]
    values = [*labels.params, *read, meters, ids]
    return _fetched(statement, values) if len(ids) == 1 else _fetched_page_by_page(statement, values)


def _fetched(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


@transaction.atomic
def _fetched_page_by_page(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(PAGE_BY_PAGE)
        rows = _fetched(statement, values)
        cursor.execute(AS_EVER)
    return rows


def _pieces(edges: Sequence[datetime], zone: ZoneInfo) -> list[Sql]:
    """What to read: whole days, and quarter hours before and after them; quarter hours alone where a split is no
    midnight."""
    start, *inside, end = edges
    first, last = day_ceiling(start, zone), bucket_of(end, "day", zone)
    if first >= last or not all(is_midnight(at, zone) for at in inside):
        return [_piece(QUARTER_HOURS, PART_OF_QUARTER_HOUR, edges, start, end)]
    days = [at.astimezone(zone).date() for at in edges]
    pieces = [_piece(DAYS, PART_OF_DAY, days, *(at.astimezone(zone).date() for at in (first, last)))]
    for begins, ends in ((start, first), (last, end)):
        if begins < ends:
            pieces.append(_piece(QUARTER_HOURS, PART_OF_QUARTER_HOUR, edges, begins, ends))
    return pieces


def _piece(statement: str, part: str, edges: Sequence[date], begins: date, ends: date) -> Sql:
    """Rows from `begins` up to `ends`, each with the number of its part."""
    starts = list(edges[:-1])
    if len(starts) == 1:
        return Sql(statement.format(part=ONLY_PART), (begins, ends))
    return Sql(statement.format(part=part), (starts, begins, ends))
