"""The windows that quotas count in: minutes to months of a zone, billing periods, and the one that never ends. Pure.

Windows are half-open and follow one another without gap or overlap, whatever the clocks do.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from metering.buckets import bucket_of, midnight

# Where a window that never ends is said to begin.
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WEEK = timedelta(weeks=1)


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) in UTC; end is None where it never ends."""

    start: datetime
    end: datetime | None


FOR_EVER = Span(BEGINNING, None)


def window_at(kind: str, instant: datetime, *, zone: ZoneInfo, billing: Span | None = None) -> Span:
    """The window that an instant falls into. Without a billing period the calendar month stands in for it."""
    match kind:
        case "minute":
            start = instant.astimezone(UTC).replace(second=0, microsecond=0)
            return Span(start, start + MINUTE)
        case "hour":
            start = bucket_of(instant, "hour", zone)
            return Span(start, _end_of_hour(start, zone))
        case "day":
            day = instant.astimezone(zone).date()
            return Span(midnight(day, zone), midnight(day + timedelta(days=1), zone))
        case "week":
            day = instant.astimezone(zone).date()
            monday = day - timedelta(days=day.weekday())
            return Span(midnight(monday, zone), midnight(monday + WEEK, zone))
        case "month" | "billing_period" if kind == "month" or billing is None:
            first = instant.astimezone(zone).date().replace(day=1)
            return Span(midnight(first, zone), midnight((first + timedelta(days=32)).replace(day=1), zone))
        case "billing_period":
            assert billing is not None
            return billing
    return FOR_EVER


def _end_of_hour(start: datetime, zone: ZoneInfo) -> datetime:
    """Where the next begins: an hour later, but where clocks change by half an hour."""
    at = start + timedelta(minutes=15)
    while bucket_of(at, "hour", zone) == start:
        at += timedelta(minutes=15)
    return at
