"""How a range of time falls into quarter hours, hours, days and months of a zone. Pure datetime.

Agrees with PostgreSQL's date_trunc(unit, instant, zone), so that what reports return can be laid over a chart's axis.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from metering import quarter_hours

type Granularity = Literal["interval", "hour", "day", "month", "total"]
GRANULARITIES: tuple[Granularity, ...] = ("interval", "hour", "day", "month", "total")


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a day, also where clocks skip it."""
    at = datetime.combine(day, time(), zone)
    return at.astimezone(ZoneInfo("UTC")).astimezone(zone)


def is_midnight(at: datetime, zone: ZoneInfo) -> bool:
    return at == midnight(at.astimezone(zone).date(), zone)


def bucket_of(at: datetime, granularity: Granularity, zone: ZoneInfo) -> datetime:
    """The start of the bucket that an instant lies in, in the zone. Not for "total", whose bucket is the range."""
    local = at.astimezone(zone)
    if granularity == "interval":
        return quarter_hours.floor(at).astimezone(zone)
    if granularity == "hour":
        past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        # In real time: where clocks go back, the hour's second half starts an hour of its own.
        return (at - past).astimezone(zone)
    day = local.date()
    return midnight(day.replace(day=1) if granularity == "month" else day, zone)


def bucket_starts(start: datetime, end: datetime, granularity: Granularity, zone: ZoneInfo) -> list[datetime]:
    """The starts of all buckets that overlap [start, end), in order, in the zone."""
    if start >= end:
        return []
    if granularity == "total":
        return [start.astimezone(zone)]
    if granularity in ("day", "month"):
        return list(_days(start, end, granularity, zone))
    first = quarter_hours.floor(start)
    steps = (quarter_hours.ceiling(end) - first) // quarter_hours.QUARTER_HOUR
    quarters = (first + number * quarter_hours.QUARTER_HOUR for number in range(steps))
    return list(dict.fromkeys(bucket_of(at, granularity, zone) for at in quarters))


def _days(start: datetime, end: datetime, granularity: Granularity, zone: ZoneInfo) -> Iterator[datetime]:
    at = bucket_of(start, granularity, zone)
    while at < end:
        yield at
        ahead = at.date() + timedelta(days=1 if granularity == "day" else 32)
        at = midnight(ahead if granularity == "day" else ahead.replace(day=1), zone)
