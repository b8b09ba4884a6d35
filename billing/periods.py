"""Billing periods: where each month, year or other stretch of the calendar of a subscription begins and ends.

Every boundary is computed from the anchor (its local day and time of day, n months or days on), never from the boundary
before, so a 31st comes back after February and lateness never accumulates. Periods are half-open, in UTC, on quarter
hours, and follow one another without gap or overlap. Reads no clock and knows no subscription.

A schedule has one time zone. To move to another zone, end at a boundary of the old schedule and use that boundary as
the anchor of the new one.
"""

import re
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, Self
from zoneinfo import ZoneInfo

QUARTER_HOUR = timedelta(minutes=15)
CADENCE = re.compile(r"(?:(?P<count>[1-9][0-9]{0,3}) )?(?P<unit>day|week|month|year)s?")
# Larger units first.
IN_MONTHS = {"year": 12, "month": 1}
IN_DAYS = {"week": 7, "day": 1}
MOST_MONTHS = 120
MOST_DAYS = 3650


class NaiveInstant(ValueError):
    code = "naive_instant"

    def __init__(self, instant: datetime) -> None:
        super().__init__(f"The time {instant.isoformat()} does not say its time zone.")


class EmptyPeriod(ValueError):
    code = "empty_period"

    def __init__(self, start: datetime, end: datetime) -> None:
        super().__init__(f"A period must end after it starts, not run from {start.isoformat()} to {end.isoformat()}.")


class AnchorOffQuarterHour(ValueError):
    code = "anchor_off_quarter_hour"

    def __init__(self, anchor: datetime) -> None:
        super().__init__(f"A billing anchor must lie on a quarter hour, which {anchor.isoformat()} does not.")


class CadenceInvalid(ValueError):
    code = "cadence_invalid"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"“{text}” is not how often to bill: month, year, or a number of days, weeks, months or years, such as "
            "“3 months”, of ten years at most."
        )


class Cadence(str):
    """How long a period is: "month", "year", "week", "day", or several of one of these, "3 months".

    Equal rhythms are equal texts: "12 months" is "year", "14 days" is "2 weeks". Raises CadenceInvalid.
    """

    __slots__ = ("days", "months")

    MONTH: ClassVar["Cadence"]
    YEAR: ClassVar["Cadence"]

    # Exactly one of them is not zero.
    months: int
    days: int

    def __new__(cls, text: str) -> Self:
        found = CADENCE.fullmatch(text)
        if found is None:
            raise CadenceInvalid(text)
        count, unit = int(found["count"] or 1), found["unit"]
        months = count * IN_MONTHS.get(unit, 0)
        days = count * IN_DAYS.get(unit, 0)
        if months > MOST_MONTHS or days > MOST_DAYS:
            raise CadenceInvalid(text)
        self = super().__new__(cls, _spelled(months, IN_MONTHS) if months else _spelled(days, IN_DAYS))
        self.months, self.days = months, days
        return self

    @property
    def per(self) -> str:
        """After an amount: "a month", "every 3 months"."""
        return f"every {self}" if self[0].isdigit() else f"a {self}"

    @property
    def each(self) -> str:
        """After what comes again: "each month", "every 3 months"."""
        return f"every {self}" if self[0].isdigit() else f"each {self}"


def _spelled(amount: int, units: dict[str, int]) -> str:
    """In the largest unit that divides it."""
    unit = next(unit for unit, size in units.items() if amount % size == 0)
    count = amount // units[unit]
    return unit if count == 1 else f"{count} {unit}s"


Cadence.MONTH = Cadence("month")
Cadence.YEAR = Cadence("year")


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """[start, end) in UTC; instants in other zones are converted, naive ones refused."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", in_utc(self.start))
        object.__setattr__(self, "end", in_utc(self.end))
        if self.start >= self.end:
            raise EmptyPeriod(self.start, self.end)

    def contains(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def split_at(self, instants: Iterable[datetime]) -> list["Period"]:
        """The period cut at those of the instants that lie inside it."""
        cuts = sorted({in_utc(instant) for instant in instants if self.start < instant < self.end})
        return [Period(start, end) for start, end in pairwise([self.start, *cuts, self.end])]


def in_utc(instant: datetime) -> datetime:
    """The same instant in UTC; raises NaiveInstant."""
    if instant.tzinfo is UTC:
        return instant
    if instant.utcoffset() is None:
        raise NaiveInstant(instant)
    return instant.astimezone(UTC)


def quarter_hour_floor(instant: datetime) -> datetime:
    """The last quarter hour, in UTC, at or before the instant."""
    utc = in_utc(instant)
    return utc.replace(minute=utc.minute - utc.minute % 15, second=0, microsecond=0)


def next_quarter_hour(instant: datetime) -> datetime:
    """The first quarter hour, in UTC, after the instant."""
    return quarter_hour_floor(instant) + QUARTER_HOUR


def period_boundary(anchor: datetime, *, number: int, zone: ZoneInfo, cadence: Cadence) -> datetime:
    """Where period `number` starts, in UTC: the anchor's wall-clock day and time in the zone, that many months, days
    and so on later. Period 0 starts at the anchor itself; numbers may be negative.

    The day is clamped to the month's length. A time skipped by the clock becomes the first quarter hour after the gap,
    a time that occurs twice its first occurrence. Raises AnchorOffQuarterHour and NaiveInstant.
    """
    return _boundary(in_utc(anchor), number, zone, cadence)


@lru_cache(maxsize=4096)
def _boundary(anchor: datetime, number: int, zone: ZoneInfo, cadence: Cadence) -> datetime:
    """Remembered, since a bill asks dozens of times for the same few."""
    if quarter_hour_floor(anchor) != anchor:
        raise AnchorOffQuarterHour(anchor)
    if number == 0:
        return anchor
    if cadence.days:
        return days_later(anchor, number * cadence.days, zone)
    return _from_wall_clock(_months_later(_wall_clock(anchor, zone), number * cadence.months), zone)


def days_later(instant: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The same time of day in the zone, that many days later; on a quarter hour where the instant is."""
    return _from_wall_clock(_wall_clock(in_utc(instant), zone) + timedelta(days=days), zone)


def period_number(anchor: datetime, *, instant: datetime, zone: ZoneInfo, cadence: Cadence) -> int:
    """The number of the period that contains the instant; 0 is the one that starts at the anchor."""
    first, now = _wall_clock(in_utc(anchor), zone), _wall_clock(in_utc(instant), zone)
    months_apart = (now.year - first.year) * 12 + now.month - first.month
    apart, length = ((now.date() - first.date()).days, cadence.days) if cadence.days else (months_apart, cadence.months)
    number = apart // length + 1  # at most two too many: the day and the clock decide
    while period_boundary(anchor, number=number, zone=zone, cadence=cadence) > instant:
        number -= 1
    return number


def numbered_period(anchor: datetime, *, number: int, zone: ZoneInfo, cadence: Cadence) -> Period:
    return Period(
        period_boundary(anchor, number=number, zone=zone, cadence=cadence),
        period_boundary(anchor, number=number + 1, zone=zone, cadence=cadence),
    )


def period_at(anchor: datetime, *, instant: datetime, zone: ZoneInfo, cadence: Cadence) -> Period:
    """The period that contains the instant."""
    number = period_number(anchor, instant=instant, zone=zone, cadence=cadence)
    return numbered_period(anchor, number=number, zone=zone, cadence=cadence)


def next_period(anchor: datetime, *, period: Period, zone: ZoneInfo, cadence: Cadence) -> Period:
    """The period that follows."""
    return period_at(anchor, instant=period.end, zone=zone, cadence=cadence)


def periods_between(
    anchor: datetime, *, zone: ZoneInfo, cadence: Cadence, start: datetime, end: datetime
) -> list[Period]:
    """Every period that shares an instant with [start, end), in order; empty when start is not before end."""
    if start >= end:
        return []
    number = period_number(anchor, instant=start, zone=zone, cadence=cadence)
    periods = [numbered_period(anchor, number=number, zone=zone, cadence=cadence)]
    while periods[-1].end < end:
        number += 1
        periods.append(numbered_period(anchor, number=number, zone=zone, cadence=cadence))
    return periods


def _wall_clock(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _months_later(wall: datetime, months: int) -> datetime:
    years, month_index = divmod(wall.month - 1 + months, 12)
    year, month = wall.year + years, month_index + 1
    return wall.replace(year=year, month=month, day=min(wall.day, monthrange(year, month)[1]))


def _from_wall_clock(wall: datetime, zone: ZoneInfo) -> datetime:
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall_clock(instant, zone) == wall:
        return instant
    # The clock skipped this time: fold 0 read it with the offset before the gap and so lies after it, fold 1 before it.
    return _first_quarter_hour_after_gap(wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant, zone)


def _first_quarter_hour_after_gap(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first quarter hour with the zone's new offset, by bisection between two quarter hours. The change itself need
    not be on one: Antarctica/Casey put its clock forward at 00:01."""
    offset_after = after.astimezone(zone).utcoffset()
    while after - before > QUARTER_HOUR:
        middle = before + (after - before) // (2 * QUARTER_HOUR) * QUARTER_HOUR
        if middle.astimezone(zone).utcoffset() == offset_after:
            after = middle
        else:
            before = middle
    return after
