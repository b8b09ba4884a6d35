"""Weekly time windows in a named zone: when a price or a component holds, such as "Mon-Fri 01:00-04:00 UTC".

Windows are half-open and follow the zone's wall clock, so an hour that the clock repeats is inside twice and one that
it skips never. One that ends at or before its start runs past midnight, into a day that need not be named; equal ends
are a whole day. All ends lie on quarter hours: membership is decided per quarter hour, and no reading is ever divided.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from billing.periods import QUARTER_HOUR, Period, quarter_hour_floor

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
QUARTERS_A_DAY = 96
QUARTERS_A_WEEK = 7 * QUARTERS_A_DAY
DAY, WEEK = timedelta(days=1), timedelta(days=7)


class InvalidWindows(ValueError):
    code = "invalid_windows"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text!r} is not a set of weekly windows. Write days, times on quarter hours and a time zone: "
            "“Mon-Fri 01:00-04:00, 06:00-10:00 UTC” or “daily 22:00-06:00 Europe/Berlin”."
        )


@dataclass(frozen=True, slots=True)
class Windows:
    """Made by `parse_windows`; equal texts make equal windows."""

    text: str  # as written
    zone: ZoneInfo
    quarters: frozenset[int]  # quarter hours of the local week, 0 being Monday at midnight

    def __str__(self) -> str:
        return self.text

    def contains(self, instant: datetime) -> bool:
        return _quarter_of_week(instant, self.zone) in self.quarters

    def next_change(self, instant: datetime) -> datetime | None:
        """The first instant after this one at which the windows open or close; None where they never do."""
        monday = quarter_hour_floor(instant) - timedelta(days=instant.weekday())
        week = monday.replace(hour=0, minute=0)
        for start in (week, week + WEEK):
            changes = _changes(self, start, start + WEEK + DAY)
            place = bisect_right(changes, instant)
            if place < len(changes):
                return changes[place]
        return None

    def boundaries(self, period: Period) -> tuple[datetime, ...]:
        """The instants strictly inside the period at which the windows open or close: where to cut readings."""
        return _changes(self, period.start, period.end)


@lru_cache(maxsize=1024)
def parse_windows(text: str) -> Windows:
    """Comma-separated windows, then the zone. Days are one, a range or `daily`; left out, they are those of the window
    before. Raises InvalidWindows."""
    try:
        body, zone = text.strip().rsplit(" ", 1)
        quarters: set[int] = set()
        days: tuple[int, ...] = tuple(range(7))
        for entry in body.split(","):
            *named, times = entry.split()
            days = _days(named[0]) if named else days
            if len(named) > 1:
                raise InvalidWindows(text)
            quarters |= _quarters(days, times)
        return Windows(" ".join(text.split()), ZoneInfo(zone), frozenset(quarters))
    except (ValueError, IndexError, ZoneInfoNotFoundError, OSError) as error:
        raise InvalidWindows(text) from error


def _days(text: str) -> tuple[int, ...]:
    if text.lower() == "daily":
        return tuple(range(7))
    first, _, last = text.title().partition("-")
    start = DAYS.index(first)
    count = (DAYS.index(last) - start) % 7 if last else 0
    return tuple((start + later) % 7 for later in range(count + 1))


def _quarters(days: tuple[int, ...], times: str) -> set[int]:
    start, end = (_quarter_of_day(time) for time in times.split("-"))
    length = (end - start) % QUARTERS_A_DAY or QUARTERS_A_DAY
    begins = [day * QUARTERS_A_DAY + start for day in days]
    return {(begin + later) % QUARTERS_A_WEEK for begin in begins for later in range(length)}


def _quarter_of_day(time: str) -> int:
    hours, minutes = (int(part) for part in time.split(":"))
    quarter, rest = divmod(hours * 60 + minutes, 15)
    if rest or not 0 <= minutes < 60 or not 0 <= quarter <= QUARTERS_A_DAY:
        raise ValueError(time)
    return quarter


def _quarter_of_week(instant: datetime, zone: ZoneInfo) -> int:
    local = instant.astimezone(zone)
    return local.weekday() * QUARTERS_A_DAY + local.hour * 4 + local.minute // 15


@lru_cache(maxsize=4096)
def _changes(windows: Windows, start: datetime, end: datetime) -> tuple[datetime, ...]:
    was_inside: bool | None = None
    changes = []
    for instant, quarter in _walk(start, end, windows.zone):
        is_inside = quarter in windows.quarters
        if was_inside is not None and is_inside != was_inside and instant > start:
            changes.append(instant)
        was_inside = is_inside
    return tuple(changes)


def _walk(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, int]]:
    """Every quarter hour with its place in the local week; the clock is asked once a day, unless it is put that day."""
    instant = quarter_hour_floor(start)
    while instant < end:
        until = min(instant + DAY, end)
        is_steady = instant.astimezone(zone).utcoffset() == until.astimezone(zone).utcoffset()
        quarter = _quarter_of_week(instant, zone)
        while instant < until:
            yield instant, quarter
            instant += QUARTER_HOUR
            quarter = (quarter + 1) % QUARTERS_A_WEEK if is_steady else _quarter_of_week(instant, zone)
