"""How a range of time falls into quarter hours, hours, days and months of a zone. Pure datetime.

Agrees with PostgreSQL's date_trunc(unit, instant, zone). Takes instants of any zone and returns them in UTC: Python
compares and subtracts instants of one zone by their wall clock, which goes wrong where clocks change.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from metering import quarter_hours

type Granularity = Literal["interval", "hour", "day", "month", "total"]
GRANULARITIES: tuple[Granularity, ...] = ("interval", "hour", "day", "month", "total")


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a day, also where clocks skip its first hour."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def is_midnight(at: datetime, zone: ZoneInfo) -> bool:
    return at.astimezone(UTC) == midnight(at.astimezone(zone).date(), zone)


def day_ceiling(at: datetime, zone: ZoneInfo) -> datetime:
    """The instant itself where it is a midnight, otherwise the next midnight."""
    day = at.astimezone(zone).date()
    return at.astimezone(UTC) if is_midnight(at, zone) else midnight(day + timedelta(days=1), zone)


def bucket_of(at: datetime, granularity: Granularity, zone: ZoneInfo) -> datetime:
    """The start of the bucket that an instant lies in. Not for "total", whose bucket is the range."""
    if granularity == "interval":
        return quarter_hours.floor(at)
    if granularity == "hour":
        return hour_start(_truncated(at.astimezone(UTC), zone), zone)
    day = at.astimezone(zone).date()
    return midnight(day.replace(day=1) if granularity == "month" else day, zone)


def bucket_starts(start: datetime, end: datetime, granularity: Granularity, zone: ZoneInfo) -> list[datetime]:
    """The starts of all buckets that overlap [start, end), in order."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if start >= end:
        return []
    if granularity == "total":
        return [start]
    if granularity in ("day", "month"):
        return list(_days(start, end, granularity, zone))
    first = quarter_hours.floor(start)
    steps = (quarter_hours.ceiling(end) - first) // quarter_hours.QUARTER_HOUR
    quarters = (first + number * quarter_hours.QUARTER_HOUR for number in range(steps))
    return list(dict.fromkeys(bucket_of(at, granularity, zone) for at in quarters))


def hour_start(truncated: datetime, zone: ZoneInfo) -> datetime:
    """The first instant that date_trunc('hour', instant, zone) maps to this value.

    It is the value itself but where clocks change by half an hour: there the hour's second part begins at the change.
    """
    at = truncated.astimezone(UTC)
    while _truncated(at, zone) != truncated:
        at += quarter_hours.QUARTER_HOUR
    return at


def _truncated(at: datetime, zone: ZoneInfo) -> datetime:
    local = at.astimezone(zone)
    return at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _days(start: datetime, end: datetime, granularity: Granularity, zone: ZoneInfo) -> Iterator[datetime]:
    day = start.astimezone(zone).date()
    if granularity == "month":
        day = day.replace(day=1)
    while (at := midnight(day, zone)) < end:
        yield at
        day = day + timedelta(days=1) if granularity == "day" else (day + timedelta(days=32)).replace(day=1)
