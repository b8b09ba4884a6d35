"""What operators have to look at: how much was refused on which day and why, and what no meter reads."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

from django.db import connection
from django.db.models import Count, Sum
from django.db.models.functions import TruncDate

from accounts.models import Organisation
from metering.correcting import CORRECTING_TYPES
from metering.models import IngestBatch, Meter, RejectedEvent
from metering.models.events import RejectionReason

DAYS = 7
# Batches with unmatched events that are looked through, the latest.
MOST_BATCHES = 1_000
MOST_TYPES = 200

UNMATCHED = """
SELECT o.public_id, o.slug, e.type, batch.day, count(*), max(e.time),
       (array_agg(e.source))[1], (array_agg(e.event_id))[1]
FROM unnest(%s::bigint[], %s::date[]) AS batch (id, day)
JOIN event e ON e.batch_id = batch.id AND e.receipt_month = ANY(%s)
JOIN accounts_organisation o ON o.id = e.organisation_id
WHERE NOT e.type = ANY(%s)
GROUP BY o.public_id, o.slug, e.type, batch.day ORDER BY o.slug, e.type, batch.day"""


@dataclass(frozen=True, slots=True)
class RefusedPerDay:
    """A reason, and how often it was met on each of the days (UTC) that the table shows."""

    label: str
    reason: str
    counts: tuple[int, ...]
    still_open: int


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Accepted events of a type that no meter reads."""

    organisation_id: str
    organisation: str
    type: str
    count: int
    # On each of the days of receipt (UTC) asked for.
    counts: tuple[int, ...]
    last_time: datetime
    # Source and id of one of them.
    example: tuple[str, str]


def refused_per_day(
    now: datetime, *, days: int = DAYS, organisation: Organisation | None = None
) -> tuple[tuple[date, ...], tuple[RefusedPerDay, ...]]:
    """The last days, oldest first, and a row per reason that is open or was met in them, by when it was first met."""
    shown = _last_days(now, days)
    rows = RejectedEvent.objects.filter(**({"organisation": organisation} if organisation else {}))
    recent = rows.filter(first_seen_at__gte=_midnight(shown[0]))
    per_day = recent.annotate(day=TruncDate("first_seen_at", tzinfo=UTC)).values_list("reason", "day")
    counts = {(reason, day): count for reason, day, count in per_day.annotate(Sum("seen_count")).order_by()}
    still_open = dict(rows.open().values_list("reason").annotate(Count("pk")).order_by())
    return shown, tuple(
        RefusedPerDay(label, reason, tuple(counts.get((reason, day), 0) for day in shown), still_open.get(reason, 0))
        for reason, label in RejectionReason.choices
        if still_open.get(reason) or any((reason, day) in counts for day in shown)
    )


def unmatched_types(
    now: datetime, *, days: int = DAYS, organisation: Organisation | None = None
) -> tuple[tuple[date, ...], list[Unmatched]]:
    """The last days, oldest first, and the types of events received on them that no meter in use reads, the most
    frequent first. Where very many batches hold such events, the latest are looked through."""
    shown = _last_days(now, days)
    latest = IngestBatch.objects.filter(unmatched_count__gt=0, received_at__gte=_midnight(shown[0])).order_by("-pk")
    latest = latest.filter(organisation=organisation) if organisation else latest
    batches = list(latest.values_list("pk", "received_at", "receipt_month")[:MOST_BATCHES])
    read = {*Meter.objects.active().values_list("event_type", flat=True), *CORRECTING_TYPES}
    received = [received_at.astimezone(UTC).date() for _, received_at, _ in batches]
    months = sorted({month for _, _, month in batches})
    with connection.cursor() as cursor:
        cursor.execute(UNMATCHED, [[pk for pk, _, _ in batches], received, months, sorted(read)])
        rows = cursor.fetchall()
    found = [_unmatched(list(of_type), shown) for _, of_type in groupby(rows, key=lambda row: row[:3])]
    return shown, sorted(found, key=lambda one: -one.count)[:MOST_TYPES]


def _unmatched(rows: list[Any], shown: tuple[date, ...]) -> Unmatched:
    """One type of one organisation, from its rows by day."""
    public_id, slug, event_type, *_ = rows[0]
    per_day = {row[3]: row[4] for row in rows}
    _, _, _, _, _, last_time, source, event_id = max(rows, key=lambda row: row[5])
    return Unmatched(
        public_id,
        slug,
        event_type,
        sum(per_day.values()),
        tuple(per_day.get(day, 0) for day in shown),
        last_time,
        (source, event_id),
    )


def _last_days(now: datetime, days: int) -> tuple[date, ...]:
    today = now.astimezone(UTC).date()
    return tuple(today - timedelta(days=step) for step in reversed(range(days)))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
