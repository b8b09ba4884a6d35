"""What operators have to look at: how much was refused on which day, and why."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import Count, Sum
from django.db.models.functions import TruncDate

from accounts.models import Organisation
from metering.models import RejectedEvent
from metering.models.events import RejectionReason

DAYS = 7


@dataclass(frozen=True, slots=True)
class RefusedPerDay:
    """A reason, and how often it was met on each of the days (UTC) that the table shows."""

    label: str
    reason: str
    counts: tuple[int, ...]
    still_open: int


def refused_per_day(
    now: datetime, *, days: int = DAYS, organisation: Organisation | None = None
) -> tuple[tuple[date, ...], tuple[RefusedPerDay, ...]]:
    """The last days, oldest first, and a row per reason that is open or was met in them, by when it was first met."""
    shown = last_days(now, days)
    rows = RejectedEvent.objects.filter(**({"organisation": organisation} if organisation else {}))
    recent = rows.filter(first_seen_at__gte=midnight(shown[0]))
    per_day = recent.annotate(day=TruncDate("first_seen_at", tzinfo=UTC)).values_list("reason", "day")
    counts = {(reason, day): count for reason, day, count in per_day.annotate(Sum("seen_count")).order_by()}
    still_open = dict(rows.open().values_list("reason").annotate(Count("pk")).order_by())
    return shown, tuple(
        RefusedPerDay(label, reason, tuple(counts.get((reason, day), 0) for day in shown), still_open.get(reason, 0))
        for reason, label in RejectionReason.choices
        if still_open.get(reason) or any((reason, day) in counts for day in shown)
    )


def last_days(now: datetime, days: int) -> tuple[date, ...]:
    """The days (UTC) up to today, oldest first."""
    today = now.astimezone(UTC).date()
    return tuple(today - timedelta(days=step) for step in reversed(range(days)))


def midnight(day: date) -> datetime:
    """The beginning of a day in UTC."""
    return datetime.combine(day, datetime.min.time(), UTC)
