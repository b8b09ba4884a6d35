"""What a meter would read: its definition tried on the latest events, before anybody relies on it. Writes nothing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from metering.exact import average, exact_sum
from metering.exact_json import decode_object
from metering.members import (
    conditions_of,
    lets_through,
    read_member,
    readable_number,
    scalar_text,
    tier_of,
    tiers_of,
)
from metering.models import Aggregation, IngestBatch, Meter

# The latest batches, and of these the latest events.
MOST_BATCHES = 200
MOST_EVENTS = 1_000
MOST_SHOWN = 10

RECENT = """
SELECT e.time, e.source, e.event_id, o.public_id, e.data::text, e.key
FROM event e JOIN accounts_organisation o ON o.id = e.organisation_id
WHERE e.batch_id = ANY(%s) AND e.receipt_month = ANY(%s) AND e.type = %s
ORDER BY e.batch_id DESC, e.time DESC LIMIT %s"""


@dataclass(frozen=True, slots=True)
class Sample:
    """An event that the meter would read."""

    time: datetime
    organisation: str
    source: str
    event_id: str
    # The number that counts, or the value that is told apart; 1 for an event that is counted.
    value: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """A set of dimensions, and how many events have it."""

    labels: dict[str, str]
    events: int


@dataclass(frozen=True, slots=True)
class MeterPreview:
    """What came of the latest events of the meter's type."""

    # Events of its type that were looked at.
    of_its_type: int
    # Those that its conditions let through, and those among them that carry a value it can read.
    let_through: int
    readable: int
    # What they come to together; None: nothing was read.
    value: Decimal | None
    # How many sets of dimensions there are; the most frequent.
    series: int
    groups: tuple[Group, ...]
    samples: tuple[Sample, ...]
    # Values that are there and that it cannot read, as they were sent.
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Read:
    sample: Sample
    place: tuple[datetime, bytes]


def preview_meter(meter: Meter) -> MeterPreview:
    """Try a meter, saved or not, on the latest events of its type, whoever's they are."""
    rows = _latest(meter.event_type)
    conditions = conditions_of(meter.filters)
    let_through = [row for row in rows if lets_through(conditions, row[-2])]
    read: list[_Read] = []
    unreadable: list[str] = []
    for time, source, event_id, organisation, data, key in let_through:
        value, shown = _value(meter, data)
        if value is not None:
            sample = Sample(time, organisation, source, event_id, value, _labels(meter, data))
            read.append(_Read(sample, (time, key.bytes)))
        elif shown is not None:
            unreadable.append(shown)
    groups = Counter(tuple(sorted(one.sample.labels.items())) for one in read)
    return MeterPreview(
        of_its_type=len(rows),
        let_through=len(let_through),
        readable=len(read),
        value=_figure(meter.aggregation, read),
        series=len(groups),
        groups=tuple(Group(dict(labels), events) for labels, events in groups.most_common(MOST_SHOWN)),
        samples=tuple(one.sample for one in read[:MOST_SHOWN]),
        unreadable=tuple(dict.fromkeys(unreadable))[:MOST_SHOWN],
    )


def _latest(event_type: str) -> Sequence[tuple[Any, ...]]:
    batches = list(IngestBatch.objects.order_by("-pk").values_list("pk", "receipt_month")[:MOST_BATCHES])
    places: list[Any] = [[pk for pk, _ in batches], sorted({month for _, month in batches})]
    with connection.cursor() as cursor:
        cursor.execute(RECENT, [*places, event_type, MOST_EVENTS])
        return [(*row[:4], decode_object(row[4]), row[5]) for row in cursor.fetchall()]


def _value(meter: Meter, data: dict[str, Any]) -> tuple[str | None, str | None]:
    """What counts, as text; and what is there instead, where that cannot be read."""
    if meter.aggregation == Aggregation.COUNT:
        return "1", None
    member = read_member(data, meter.value_field)
    if meter.aggregation == Aggregation.UNIQUE_COUNT:
        text = scalar_text(member)
    else:
        number = readable_number(member)
        text = None if number is None else f"{number:f}"
    return text, None if text is not None or member is None else str(member)[:80]


def _labels(meter: Meter, data: dict[str, Any]) -> dict[str, str]:
    found = {name: read_member(data, name) for name in meter.dimensions}
    found |= {name: tier_of(tiers, data) for name, tiers in tiers_of(meter.tiers).items()}
    return {name: str(value)[:200] for name, value in found.items() if value is not None}


def _figure(aggregation: str, read: Sequence[_Read]) -> Decimal | None:
    if not read:
        return None
    if aggregation == Aggregation.UNIQUE_COUNT:
        return Decimal(len({one.sample.value for one in read}))
    if aggregation == Aggregation.LATEST:
        return Decimal(max(read, key=lambda one: one.place).sample.value)
    return _figure_of_numbers(aggregation, [Decimal(one.sample.value) for one in read])


def _figure_of_numbers(aggregation: str, numbers: Iterable[Decimal]) -> Decimal:
    every = list(numbers)
    if aggregation == Aggregation.MAX:
        return max(every)
    if aggregation == Aggregation.MIN:
        return min(every)
    total = exact_sum(every)
    return average(total, len(every)) if aggregation == Aggregation.AVERAGE else total
