"""Billing periods: boundaries from the anchor, in every zone, across clock changes and short months."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from billing.periods import (
    QUARTER_HOUR,
    AnchorOffQuarterHour,
    Cadence,
    CadenceInvalid,
    EmptyPeriod,
    NaiveInstant,
    Period,
    in_utc,
    next_period,
    numbered_period,
    period_at,
    period_boundary,
    period_number,
    periods_between,
    quarter_hour_floor,
)

ZONES = sorted(available_timezones() - {"localtime"})
BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
DAY = timedelta(days=1)
# Long ago zones differed from UTC by odd minutes: Accra by twenty, Liberia by 44 and a half until 1972.
FIRST_YEAR_OF_QUARTER_HOURS = 1990

zones = st.sampled_from(ZONES).map(ZoneInfo)
RHYTHMS = (
    "month",
    "year",
    "3 months",
    "7 months",
    "2 years",
    "day",
    "week",
    "10 days",
    "2 weeks",
    "30 days",
    "100 days",
)
cadences = st.sampled_from(RHYTHMS).map(Cadence)
quarter_hours = st.integers(0, 10 * 365 * 96).map(
    lambda number: datetime(2022, 1, 1, tzinfo=UTC) + number * QUARTER_HOUR
)
instants = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local_boundaries(anchor: datetime, zone: ZoneInfo, cadence: Cadence, count: int) -> list[str]:
    boundaries = [period_boundary(anchor, number=number, zone=zone, cadence=cadence) for number in range(count)]
    return [boundary.astimezone(zone).isoformat(timespec="minutes") for boundary in boundaries]


def test_the_31st_comes_back_after_a_short_month() -> None:
    anchor = datetime(2027, 12, 31, tzinfo=BERLIN)
    assert local_boundaries(anchor, BERLIN, Cadence.MONTH, 6) == [
        "2027-12-31T00:00+01:00",
        "2028-01-31T00:00+01:00",
        "2028-02-29T00:00+01:00",
        "2028-03-31T00:00+02:00",
        "2028-04-30T00:00+02:00",
        "2028-05-31T00:00+02:00",
    ]


def test_a_leap_day_comes_back_after_four_years() -> None:
    days = local_boundaries(utc("2024-02-29"), ZoneInfo("UTC"), Cadence.YEAR, 5)
    assert [day[:10] for day in days] == ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]


def test_a_time_skipped_in_spring_becomes_the_first_instant_after_the_gap() -> None:
    anchor = datetime(2026, 2, 28, 2, 30, tzinfo=BERLIN)
    boundaries = local_boundaries(anchor, BERLIN, Cadence.MONTH, 3)
    assert boundaries[1:] == ["2026-03-28T02:30+01:00", "2026-04-28T02:30+02:00"]
    anchor = datetime(2026, 1, 29, 2, 30, tzinfo=BERLIN)
    assert local_boundaries(anchor, BERLIN, Cadence.MONTH, 4) == [
        "2026-01-29T02:30+01:00",
        "2026-02-28T02:30+01:00",
        "2026-03-29T03:00+02:00",
        "2026-04-29T02:30+02:00",
    ]


def test_a_time_that_occurs_twice_in_autumn_is_its_first_occurrence() -> None:
    anchor = datetime(2026, 9, 25, 2, 30, tzinfo=BERLIN)
    assert local_boundaries(anchor, BERLIN, Cadence.MONTH, 3)[1:] == [
        "2026-10-25T02:30+02:00",
        "2026-11-25T02:30+01:00",
    ]


def test_an_anchor_in_the_second_occurrence_starts_period_zero_there() -> None:
    anchor = utc("2026-10-25T01:30")  # 02:30 for the second time in Berlin
    assert period_at(anchor, instant=anchor, zone=BERLIN, cadence=Cadence.MONTH) == Period(
        anchor, utc("2026-11-25T01:30")
    )
    before = period_at(anchor, instant=anchor - QUARTER_HOUR, zone=BERLIN, cadence=Cadence.MONTH)
    assert before == Period(utc("2026-09-25T00:30"), anchor)


def test_months_keep_local_midnight_through_clock_changes() -> None:
    anchor = datetime(2026, 1, 1, tzinfo=NEW_YORK)
    march = period_at(anchor, instant=utc("2026-03-15"), zone=NEW_YORK, cadence=Cadence.MONTH)
    november = period_at(anchor, instant=utc("2026-11-15"), zone=NEW_YORK, cadence=Cadence.MONTH)
    assert march.end - march.start == 31 * DAY - timedelta(hours=1)
    assert november.end - november.start == 30 * DAY + timedelta(hours=1)


@pytest.mark.parametrize("name", ["Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York", "Pacific/Chatham"])
def test_a_month_is_the_sum_of_its_local_days(name: str) -> None:
    zone = ZoneInfo(name)
    anchor = datetime(2026, 1, 1, tzinfo=zone)
    for month in periods_between(
        anchor, zone=zone, cadence=Cadence.MONTH, start=utc("2026-02-01"), end=utc("2027-02-01")
    ):
        first, last = month.start.astimezone(zone).date(), month.end.astimezone(zone).date()
        midnights = [
            datetime.combine(first + number * DAY, datetime.min.time(), zone)
            for number in range((last - first).days + 1)
        ]
        days = month.split_at(midnights)
        assert len(days) == (last - first).days
        assert sum((day.end - day.start for day in days), timedelta()) == month.end - month.start


def test_a_local_day_that_never_was_ends_the_period_where_the_next_day_begins() -> None:
    apia = ZoneInfo("Pacific/Apia")  # went from 29 to 31 December 2011
    anchor = datetime(2011, 11, 30, 12, 0, tzinfo=apia)
    boundary = period_boundary(anchor, number=1, zone=apia, cadence=Cadence.MONTH)
    assert boundary.astimezone(apia).isoformat() == "2011-12-31T00:00:00+14:00"


@given(anchor=quarter_hours, zone=zones, cadence=cadences)
def test_ten_years_of_periods_leave_no_gap_and_no_overlap(anchor: datetime, zone: ZoneInfo, cadence: Cadence) -> None:
    days = cadence.days or round(cadence.months * 30.44)
    numbers = range(3653 // days)
    periods = [numbered_period(anchor, number=number, zone=zone, cadence=cadence) for number in numbers]
    assert periods[0].start == anchor
    assert all(before.end == after.start for before, after in pairwise(periods))
    slack = 2 * DAY if cadence.days else 4 * DAY
    assert all(days * DAY - slack < period.end - period.start < days * DAY + slack for period in periods)


@given(anchor=quarter_hours, zone=zones, cadence=cadences, number=st.integers(1, 100))
def test_no_boundary_drifts_from_the_anchors_time_of_day(
    anchor: datetime, zone: ZoneInfo, cadence: Cadence, number: int
) -> None:
    """Unless the clock skips that time there and then."""
    boundary = period_boundary(anchor, number=number, zone=zone, cadence=cadence).astimezone(zone)
    is_skipped = (boundary - QUARTER_HOUR).utcoffset() != boundary.utcoffset()
    assert is_skipped or boundary.time() == anchor.astimezone(zone).time()
    if cadence.days and not is_skipped:
        assert (boundary.date() - anchor.astimezone(zone).date()).days == number * cadence.days


@pytest.mark.parametrize(
    ("text", "plain"), [("12 months", "year"), ("14 days", "2 weeks"), ("1 month", "month"), ("24 months", "2 years")]
)
def test_one_rhythm_has_one_text(text: str, plain: str) -> None:
    assert Cadence(text) == plain


@pytest.mark.parametrize("text", ["", "fortnight", "0 days", "-1 month", "1.5 months", "11 years", "4000 days"])
def test_what_is_no_rhythm_is_refused(text: str) -> None:
    with pytest.raises(CadenceInvalid):
        Cadence(text)


def test_rhythms_in_words() -> None:
    assert [Cadence(text).per for text in ("month", "3 months")] == ["a month", "every 3 months"]
    assert [Cadence(text).each for text in ("week", "10 days")] == ["each week", "every 10 days"]


@given(anchor=quarter_hours, instant=instants, zone=zones, cadence=cadences)
def test_every_instant_lies_in_exactly_one_period(
    anchor: datetime, instant: datetime, zone: ZoneInfo, cadence: Cadence
) -> None:
    period = period_at(anchor, instant=instant, zone=zone, cadence=cadence)
    number = period_number(anchor, instant=instant, zone=zone, cadence=cadence)
    assert period.contains(instant)
    assert period == numbered_period(anchor, number=number, zone=zone, cadence=cadence)
    following = next_period(anchor, period=period, zone=zone, cadence=cadence)
    assert following == numbered_period(anchor, number=number + 1, zone=zone, cadence=cadence)
    assert not following.contains(instant)


@given(anchor=quarter_hours, start=instants, length=st.timedeltas(timedelta(microseconds=1), timedelta(days=900)))
def test_periods_between_cover_the_range_and_nothing_more(anchor: datetime, start: datetime, length: timedelta) -> None:
    periods = periods_between(anchor, zone=BERLIN, cadence=Cadence.MONTH, start=start, end=start + length)
    assert periods[0].contains(start)
    assert periods[-1].start < start + length <= periods[-1].end
    assert all(before.end == after.start for before, after in pairwise(periods))


def test_periods_between_two_boundaries_are_just_those() -> None:
    start, end = utc("2026-02-01"), utc("2026-04-01")
    months = periods_between(utc("2026-01-01"), zone=ZoneInfo("UTC"), cadence=Cadence.MONTH, start=start, end=end)
    assert months == [Period(start, utc("2026-03-01")), Period(utc("2026-03-01"), end)]


def test_a_clock_put_back_into_the_month_before_does_not_bring_back_its_period() -> None:
    st_johns = ZoneInfo("America/St_Johns")  # at 00:01 on 1 November 2009 it became 23:01 on 31 October again
    anchor = datetime(2009, 1, 1, tzinfo=st_johns)
    november = period_at(anchor, instant=utc("2009-11-01T02:45"), zone=st_johns, cadence=Cadence.MONTH)
    assert utc("2009-11-01T02:45").astimezone(st_johns).month == 10
    assert november == Period(utc("2009-11-01T02:30"), utc("2009-12-01T03:30"))


def test_an_empty_range_has_no_periods() -> None:
    anchor = utc("2026-01-01")
    assert periods_between(anchor, zone=BERLIN, cadence=Cadence.MONTH, start=anchor, end=anchor) == []


@given(anchor=quarter_hours, zone=zones, number=st.integers(-60, 120), cadence=cadences)
def test_boundaries_fall_on_quarter_hours(anchor: datetime, zone: ZoneInfo, number: int, cadence: Cadence) -> None:
    boundary = period_boundary(anchor, number=number, zone=zone, cadence=cadence)
    assume(boundary.year >= FIRST_YEAR_OF_QUARTER_HOURS)
    assert boundary.tzinfo is UTC
    assert quarter_hour_floor(boundary) == boundary


@cache
def days_of_change(name: str) -> tuple[datetime, ...]:
    """The UTC midnights from 2020 to 2040 after which the zone's offset changes within a day; no two in one week."""
    zone = ZoneInfo(name)
    weeks = [utc("2020-01-01") + number * 7 * DAY for number in range(20 * 52 + 4)]
    offsets = [week.astimezone(zone).utcoffset() for week in weeks]
    changed = [week for week, (before, after) in zip(weeks, pairwise(offsets), strict=False) if before != after]
    return tuple(
        next(day for day in (week + number * DAY for number in range(7)) if offset_changes_within(day, zone))
        for week in changed
    )


def offset_changes_within(day: datetime, zone: ZoneInfo) -> bool:
    return day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset()


def test_every_zone_in_use_keeps_its_clock_on_quarter_hours() -> None:
    assert len(ZONES) > 400
    for name in ZONES:
        for day in (utc("2020-01-01"), *(day + DAY for day in days_of_change(name))):
            offset = day.astimezone(ZoneInfo(name)).utcoffset()
            assert offset is not None
            assert offset % QUARTER_HOUR == timedelta(0), name


def test_boundaries_around_clock_changes_of_every_zone_keep_their_time_or_leave_the_gap() -> None:
    kept = moved = 0
    for name in ZONES:
        zone = ZoneInfo(name)
        for day in days_of_change(name)[:4]:
            midnight = day.astimezone(zone).replace(tzinfo=None, hour=0, minute=0, fold=0)
            for wall in (midnight + number * 2 * QUARTER_HOUR for number in range(96)):
                anchor = wall.replace(year=wall.year - 4, tzinfo=zone).astimezone(UTC)
                boundary = period_boundary(anchor, number=4, zone=zone, cadence=Cadence.YEAR)
                assert quarter_hour_floor(boundary) == boundary, name
                if local_wall(anchor, zone).replace(year=wall.year) == wall:
                    is_kept = local_wall(boundary, zone) == wall
                    assert is_kept or is_skipped_by_the_clock(wall, zone), name
                    kept, moved = kept + is_kept, moved + (not is_kept)
    assert kept > 10_000
    assert moved > 100


def local_wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def is_skipped_by_the_clock(wall: datetime, zone: ZoneInfo) -> bool:
    return local_wall(wall.replace(tzinfo=zone).astimezone(UTC), zone) != wall


def test_a_clock_put_forward_off_the_quarter_hour_moves_the_boundary_to_the_next_one() -> None:
    casey = ZoneInfo("Antarctica/Casey")  # from 00:01 to 03:01 on 4 October 2020
    anchor = datetime(2020, 9, 4, 1, 0, tzinfo=casey)
    boundary = period_boundary(anchor, number=1, zone=casey, cadence=Cadence.MONTH)
    assert boundary.astimezone(casey).isoformat() == "2020-10-04T03:15:00+11:00"


def test_moving_to_another_zone_at_a_boundary_leaves_no_gap() -> None:
    anchor = datetime(2026, 1, 15, tzinfo=BERLIN)
    old = periods_between(anchor, zone=BERLIN, cadence=Cadence.MONTH, start=anchor, end=utc("2026-04-10"))
    new_anchor = old[-1].end
    new = periods_between(
        new_anchor, zone=NEW_YORK, cadence=Cadence.MONTH, start=new_anchor, end=new_anchor + timedelta(days=90)
    )
    assert new[0].start == old[-1].end
    assert all(before.end == after.start for before, after in pairwise([*old, *new]))


@pytest.mark.parametrize(
    "offset", [timedelta(minutes=7), timedelta(seconds=1), timedelta(microseconds=1), timedelta(minutes=14)]
)
def test_an_anchor_off_the_quarter_hour_is_refused(offset: timedelta) -> None:
    with pytest.raises(AnchorOffQuarterHour) as refusal:
        period_boundary(utc("2026-01-01") + offset, number=1, zone=BERLIN, cadence=Cadence.MONTH)
    assert refusal.value.code == "anchor_off_quarter_hour"


@given(instant=instants)
def test_quarter_hour_floor_is_the_last_quarter_hour(instant: datetime) -> None:
    floor = quarter_hour_floor(instant)
    assert floor <= instant < floor + QUARTER_HOUR
    assert (floor - utc("2020-01-01")) % QUARTER_HOUR == timedelta(0)


def test_quarter_hour_floor_looks_at_utc_and_not_at_the_local_clock() -> None:
    assert quarter_hour_floor(datetime(2026, 1, 1, 0, 50, 3, tzinfo=ZoneInfo("Asia/Kathmandu"))) == utc(
        "2025-12-31T19:00"
    )


def test_instants_without_a_zone_are_refused() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    aware = utc("2026-01-02")
    for call in (
        lambda: in_utc(naive),
        lambda: quarter_hour_floor(naive),
        lambda: Period(naive, aware),
        lambda: Period(aware, naive),
        lambda: period_at(naive, instant=aware, zone=BERLIN, cadence=Cadence.MONTH),
        lambda: period_at(aware, instant=naive, zone=BERLIN, cadence=Cadence.MONTH),
    ):
        with pytest.raises(NaiveInstant):
            call()


def test_a_period_is_kept_in_utc_and_is_half_open() -> None:
    period = Period(datetime(2026, 7, 1, tzinfo=BERLIN), datetime(2026, 8, 1, tzinfo=BERLIN))
    assert period == Period(utc("2026-06-30T22:00"), utc("2026-07-31T22:00"))
    assert period.start.tzinfo is UTC
    assert period.contains(period.start)
    assert not period.contains(period.end)


@pytest.mark.parametrize("length", [timedelta(0), timedelta(hours=-1)])
def test_a_period_that_does_not_last_is_refused(length: timedelta) -> None:
    with pytest.raises(EmptyPeriod):
        Period(utc("2026-01-01"), utc("2026-01-01") + length)


@given(cuts=st.lists(instants, max_size=10))
def test_a_period_cut_anywhere_is_still_the_same_time(cuts: list[datetime]) -> None:
    period = Period(utc("2025-01-01"), utc("2030-01-01"))
    parts = period.split_at(cuts)
    assert (parts[0].start, parts[-1].end) == (period.start, period.end)
    assert all(before.end == after.start for before, after in pairwise(parts))
    assert {part.start for part in parts[1:]} == {cut for cut in cuts if period.start < cut < period.end}
