"""What operators have to look at: how much was refused on which day and why, and what no meter reads."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db import connection
from django.db.models import Count, Sum
from django.db.models.functions import TruncDate

from metering.correcting import CORRECTING_TYPES
from metering.models import IngestBatch, Meter, RejectedEvent
from metering.models.events import RejectionReason

DAYS = 7
# Batches with unmatched events that are looked through, the latest.
MOST_BATCHES = 1_000

UNMATCHED = """
SELECT o.slug, e.type, count(*), max(e.time), (array_agg(e.source || ' ' || e.event_id))[1]
FROM event e JOIN accounts_organisation o ON o.id = e.organisation_id
WHERE e.batch_id = ANY(%s) AND e.receipt_month = ANY(%s) AND NOT e.type = ANY(%s)
GROUP BY o.slug, e.type ORDER BY count(*) DESC, o.slug, e.type LIMIT 200"""


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

    organisation: str
    type: str
    count: int
    last_time: datetime
    example: str


def refused_per_day(now: datetime) -> tuple[tuple[date, ...], tuple[RefusedPerDay, ...]]:
    """The last days, oldest first, and a row per reason that is open or was met in them, by when it was first met."""
    today = now.astimezone(UTC).date()
    days = tuple(today - timedelta(days=step) for step in reversed(range(DAYS)))
    since = datetime.combine(days[0], datetime.min.time(), UTC)
    recent = RejectedEvent.objects.filter(first_seen_at__gte=since)
    per_day = recent.annotate(day=TruncDate("first_seen_at", tzinfo=UTC)).values_list("reason", "day")
    counts = {(reason, day): count for reason, day, count in per_day.annotate(Sum("seen_count")).order_by()}
    open_rows = RejectedEvent.objects.filter(state=RejectedEvent.State.OPEN).values_list("reason")
    still_open = dict(open_rows.annotate(Count("pk")).order_by())
    return days, tuple(
        RefusedPerDay(label, reason, tuple(counts.get((reason, day), 0) for day in days), still_open.get(reason, 0))
        for reason, label in RejectionReason.choices
        if still_open.get(reason) or any((reason, day) in counts for day in days)
    )


def unmatched_types() -> list[Unmatched]:
    """Types of events in the latest batches that no meter in use reads, the most frequent first."""
    latest = IngestBatch.objects.filter(unmatched_count__gt=0).order_by("-pk")
    places = list(latest.values_list("pk", "receipt_month")[:MOST_BATCHES])
    read = {*Meter.objects.active().values_list("event_type", flat=True), *CORRECTING_TYPES}
    with connection.cursor() as cursor:
        cursor.execute(UNMATCHED, [[pk for pk, _ in places], sorted({month for _, month in places}), sorted(read)])
        return [Unmatched(*row) for row in cursor.fetchall()]
