"""What the usage page and its CSV show: figures from reports, put in order and named. Every number stays exact."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.dateformat import format as format_date
from django.utils.timesince import timesince

from accounts.models import Organisation
from metering.aggregation import Lag, lag
from metering.aggregation.statement import OTHER
from metering.buckets import Granularity, bucket_starts, midnight
from metering.exact import exact_sum, exact_text
from metering.forms import TOKENS, UsageForm
from metering.models import Meter
from metering.reports import UsageFilter, UsageReport, last_received_at, usage

# The longest range that each step is drawn for; beyond it the bars would be hairs.
LONGEST: dict[Granularity, timedelta] = {
    "interval": timedelta(days=2),
    "hour": timedelta(days=14),
    "day": timedelta(days=184),
}
# What "automatic" chooses, up to these lengths.
AUTOMATIC: list[tuple[timedelta, Granularity]] = [(timedelta(days=2), "hour"), (timedelta(days=93), "day")]
# The chart has eight colours; what comes after the seventh is drawn together.
MOST_DRAWN = 7
# Rows of the list; the CSV has all.
MOST_LISTED = 100

NO_NAME = {"model": "no model", "project": "no project", "api_key": "no key (sent for the organisation)"}
LABELS: dict[Granularity, str] = {"interval": "j M, H:i", "hour": "j M, H:i", "day": "j M", "month": "M Y"}
# A cell that a spreadsheet would take for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Question:
    """What to report, complete and consistent."""

    start: datetime
    end: datetime
    granularity: Granularity
    # meter, model, project, api_key or the name of a label.
    group: str
    # "tokens" for tokens in total, or a meter's key.
    measure: str
    measure_name: str
    unit: str
    meters: tuple[str, ...]
    # Whether figures may be added up over buckets and groups.
    is_additive: bool
    # Meters that make up the tokens in total.
    pools: tuple[str, ...]
    # Meters that the readings above the chart are taken from.
    additive: tuple[str, ...]
    filters: UsageFilter
    # The organisation's: days are counted in it.
    zone: ZoneInfo

    @property
    def last_day(self) -> date:
        """The last day of the range, included."""
        return (self.end - timedelta.resolution).astimezone(self.zone).date()

    @property
    def first_day(self) -> date:
        return self.start.astimezone(self.zone).date()


@dataclass(frozen=True, slots=True)
class Tiles:
    """Readings of the range under the filters, whatever the chart shows."""

    tokens: Decimal
    input: Decimal
    cached: Decimal
    output: Decimal
    reasoning: Decimal
    requests: Decimal


@dataclass(frozen=True, slots=True)
class Listed:
    """A group's line in the list. `value` is empty for what has no value, such as events without a model."""

    value: str
    name: str
    total: Decimal
    count: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything below the controls."""

    question: Question
    tiles: Tiles
    # For {% chart %}; None when there is nothing to draw.
    chart: Mapping[str, Any] | None
    listed: Sequence[Listed]
    unlisted: int
    total: Decimal
    count: int
    lag: Lag
    # None: no event has ever come in.
    last_received_at: datetime | None
    # "3 minutes", empty for less than one.
    since_last_received: str
    # Whether the range is still running.
    is_live: bool
    # Whether some labels read "(other)" because there were too many.
    is_bounded: bool

    @property
    def fingerprint(self) -> str:
        """Changes when anything does that the page shows."""
        shown = (self.question, self.tiles, self.chart, self.listed, self.lag.pending_events, self.since_last_received)
        return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]


def read_question(form: UsageForm) -> Question:
    """What a form asks, with defaults for what was left out or could not be read."""
    first, last = form.days()
    zone = form.organisation.zone
    measure = form.chosen("measure") or TOKENS
    meters = _measured(form, measure)
    keys = tuple(meter.key for meter in meters)
    return Question(
        start=midnight(first, zone),
        end=midnight(last + timedelta(days=1), zone),
        granularity=_step(form.chosen("granularity"), last + timedelta(days=1) - first),
        group=form.chosen("group") or "model",
        measure=measure,
        measure_name=meters[0].name if measure != TOKENS else "Tokens in total",
        unit=meters[0].unit if meters else TOKENS,
        meters=keys,
        is_additive=all(meter.is_additive for meter in meters),
        pools=tuple(meter.key for meter in _measured(form, TOKENS)),
        additive=tuple(meter.key for meter in form.meters if meter.is_additive),
        filters=_filters(form, keys),
        zone=zone,
    )


def figures(organisation: Organisation, question: Question, now: datetime) -> Figures:
    """The page's figures, in a handful of queries whatever the range and the number of groups."""
    report = _report(organisation, question)
    groups = _by_group(report if question.is_additive else _report(organisation, question, granularity="total"))
    received_at = last_received_at(organisation)
    return Figures(
        question=question,
        tiles=_tiles(organisation, question),
        chart=_chart(organisation, question, report, groups, now) if groups else None,
        listed=groups[:MOST_LISTED],
        unlisted=max(0, len(groups) - MOST_LISTED),
        total=exact_sum(one.total for one in groups) if question.is_additive else _total(organisation, question),
        count=sum(one.count for one in groups),
        lag=lag(now, organisation),
        last_received_at=received_at,
        since_last_received=_since(received_at, now),
        is_live=question.start <= now < question.end,
        is_bounded=any(one.value == OTHER for one in groups),
    )


def csv_rows(organisation: Organisation, question: Question) -> Iterator[list[str]]:
    """The same figures as lines of text: header, then one line per bucket and group with usage."""
    report = _report(organisation, question)
    names = report.names.get(question.group, {})
    yield ["start", "time_zone", f"{question.group}_id", question.group, "measure", "unit", "value", "events"]
    for row in report.rows:
        [value] = row.group
        yield [
            row.start.astimezone(question.zone).isoformat(),
            organisation.time_zone,
            safe_cell(value),
            safe_cell(names.get(value, value)),
            question.measure,
            safe_cell(question.unit),
            exact_text(row.value),
            str(row.count),
        ]


def safe_cell(text: str) -> str:
    """Text that no spreadsheet runs as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _measured(form: UsageForm, measure: str) -> list[Meter]:
    if measure == TOKENS:
        return [meter for meter in form.meters if meter.unit == TOKENS and meter.is_additive and meter.part_of is None]
    return [meter for meter in form.meters if meter.key == measure]


def _step(wanted: str, length: timedelta) -> Granularity:
    for step, longest in LONGEST.items():
        if wanted == step and length <= longest:
            return step
    if wanted == "month":
        return "month"
    return next((step for longest, step in AUTOMATIC if length <= longest), "month")


def _filters(form: UsageForm, meters: tuple[str, ...]) -> UsageFilter:
    model, project, key = (form.chosen(name) for name in ("model", "project", "key"))
    return UsageFilter(
        meters=meters,
        models=(model,) if model else (),
        project_ids=tuple(one.pk for one in form.projects if one.public_id == project),
        api_key_ids=tuple(one.pk for one in form.keys if one.public_id == key),
    )


def _report(
    organisation: Organisation, question: Question, granularity: Granularity | None = None, *, split: bool = True
) -> UsageReport:
    return usage(
        organisation,
        start=question.start,
        end=question.end,
        granularity=granularity or question.granularity,
        group_by=(question.group,) if split else (),
        filters=question.filters,
    )


def _total(organisation: Organisation, question: Question) -> Decimal:
    """The one figure of a meter that is no sum, over the range and all groups."""
    report = _report(organisation, question, "total", split=False)
    return report.rows[0].value if report.rows else Decimal(0)


def _by_group(report: UsageReport) -> list[Listed]:
    """Groups by size, the largest first; of what may not be added, from a report with one bucket."""
    [group] = report.group_by
    values: dict[str, list[Decimal]] = {}
    counts: dict[str, int] = {}
    for row in report.rows:
        [value] = row.group
        values.setdefault(value, []).append(row.value)
        counts[value] = counts.get(value, 0) + row.count
    names = report.names.get(group, {})
    listed = [
        Listed(value, names.get(value, value) or NO_NAME.get(group, "none"), exact_sum(parts), counts[value])
        for value, parts in values.items()
    ]
    return sorted(listed, key=lambda one: (-one.total, one.name))


def _since(received_at: datetime | None, now: datetime) -> str:
    if received_at is None or now - received_at < timedelta(minutes=1):
        return ""
    return timesince(received_at, now, depth=1)


def _tiles(organisation: Organisation, question: Question) -> Tiles:
    filters = UsageFilter(
        meters=question.additive,
        models=question.filters.models,
        project_ids=question.filters.project_ids,
        api_key_ids=question.filters.api_key_ids,
    )
    report = usage(organisation, start=question.start, end=question.end, granularity="total", filters=filters)
    by_meter = {row.group[0]: row.value for row in report.rows}
    nothing = Decimal(0)
    return Tiles(
        tokens=exact_sum(by_meter.get(key, nothing) for key in question.pools),
        input=by_meter.get("input_tokens", nothing),
        cached=by_meter.get("cache_read_tokens", nothing),
        output=by_meter.get("output_tokens", nothing),
        reasoning=by_meter.get("reasoning_tokens", nothing),
        requests=by_meter.get("requests", nothing),
    )


def _chart(
    organisation: Organisation, question: Question, report: UsageReport, groups: Sequence[Listed], now: datetime
) -> dict[str, Any]:
    """A stack per bucket: the largest groups, and the others together. What may not be added stands side by side, and
    the smaller groups are left to the list."""
    starts = _drawn_buckets(organisation, question, report, now)
    place = {one.value: min(number, MOST_DRAWN) for number, one in enumerate(groups)}
    cells: dict[tuple[int, datetime], list[Decimal]] = {}
    for row in report.rows:
        cells.setdefault((place[row.group[0]], row.start), []).append(row.value)
    names = [one.name for one in groups[:MOST_DRAWN]]
    if len(groups) > MOST_DRAWN and question.is_additive:
        names.append(f"{len(groups) - MOST_DRAWN} others")
    within_a_day = question.end - question.start <= timedelta(hours=25)
    pattern = "H:i" if within_a_day and question.granularity != "day" else LABELS[question.granularity]
    figure = {
        "title": question.measure_name,
        "caption": f"{_day(question.first_day)} to {_day(question.last_day)}, {organisation.time_zone}",
        "kind": "bar",
        "unit": question.unit,
        "labels": [format_date(start.astimezone(question.zone), pattern) for start in starts],
        "series": [
            {"name": name, "values": [_drawn(cells.get((number, start)), question) for start in starts]}
            for number, name in enumerate(names)
        ],
    }
    return figure if question.is_additive else figure | {"stacked": False, "total": False}


def _drawn(values: Sequence[Decimal] | None, question: Question) -> Decimal | None:
    """A sum of nothing is zero; the largest of nothing, or its average, is not known."""
    if question.is_additive:
        return exact_sum(values or ())
    return values[0] if values else None


def _day(day: date) -> str:
    return format_date(day, "j M Y")


def _drawn_buckets(
    organisation: Organisation, question: Question, report: UsageReport, now: datetime
) -> list[datetime]:
    """All buckets of the range but those that have not begun, so that a month that runs ends with today."""
    starts = bucket_starts(question.start, question.end, question.granularity, organisation.zone)
    used = {row.start for row in report.rows}
    return [start for start in starts if start <= now or start in used]
