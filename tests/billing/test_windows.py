"""Weekly windows: which instants they hold, when they change, and the prices and components that keep to them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.periods import QUARTER_HOUR, Period
from billing.rating import (
    InvalidWindows,
    PriceBook,
    Reading,
    ReadingStraddlesPrice,
    ReadingStraddlesWindow,
    boundaries,
    parse_windows,
)
from tests.billing.rating_builders import NOVEMBER, bill, november, per_unit, price, rate_card, used

# DeepSeek's peak hours since August 2026, at twice the price.
PEAK = "Mon-Fri 01:00-04:00, 06:00-10:00 UTC"
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Santiago")


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def seconds_inside(text: str, start: datetime, end: datetime) -> int:
    windows, inside = parse_windows(text), timedelta()
    for part in Period(start, end).split_at(windows.boundaries(Period(start, end))):
        inside += (part.end - part.start) * windows.contains(part.start)
    return int(inside.total_seconds())


@pytest.mark.parametrize(
    ("instant", "is_inside"),
    [
        ("2026-11-02T00:59:59", False),  # a Monday
        ("2026-11-02T01:00", True),
        ("2026-11-02T03:59:59", True),
        ("2026-11-02T04:00", False),
        ("2026-11-02T06:00", True),
        ("2026-11-02T10:00", False),
        ("2026-11-06T09:59", True),  # Friday
        ("2026-11-07T02:00", False),  # Saturday
        ("2026-11-08T07:00", False),  # Sunday
    ],
)
def test_windows_are_half_open_and_know_the_weekday(instant: str, is_inside: bool) -> None:
    assert parse_windows(PEAK).contains(at(instant)) is is_inside


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        (PEAK, 35),
        ("daily 22:00-06:00 Europe/Berlin", 56),
        ("Sun 22:00-06:00 UTC", 8),
        ("Fri-Mon 00:00-24:00 UTC", 96),
        ("Sat 00:00-00:00 UTC", 24),
        ("daily 09:00-09:00 UTC", 168),
        ("Mon 09:00-09:00 UTC", 24),
        ("Mon 10:00-12:00, 11:00-13:00 UTC", 3),
    ],
)
def test_a_week_has_the_hours_they_say(text: str, hours: int) -> None:
    assert seconds_inside(text, at("2026-11-02T00:00"), at("2026-11-09T00:00")) == hours * 3600


def test_a_window_past_midnight_belongs_to_the_day_it_begins_on() -> None:
    friday_night = parse_windows("Fri 22:00-06:00 Europe/Berlin")
    assert friday_night.contains(at("2026-11-07T05:45", "Europe/Berlin"))
    assert not friday_night.contains(at("2026-11-06T05:45", "Europe/Berlin"))


def test_the_clock_decides_on_the_days_it_is_put() -> None:
    """Berlin, 02:00-03:00: skipped on 29 March 2026, twice on 25 October."""
    for day, hours in (("2026-03-29", 0), ("2026-10-25", 2), ("2026-10-26", 1)):
        start = at(f"{day}T00:00", "Europe/Berlin")
        end = start + timedelta(hours=25 if day == "2026-10-25" else 23)
        assert seconds_inside("daily 02:00-03:00 Europe/Berlin", start, end) == hours * 3600


@pytest.mark.parametrize(
    "text",
    [
        *("", "UTC", "Mon", "Mon-Fri UTC", "Mon 01:00-04:00", "Mon 01:00-04:00 Mars/Base", "Mon 01:05-04:00 UTC"),
        *("Mon 25:00-26:00 UTC", "Mon 01:00 UTC", "Mun 01:00-02:00 UTC", "Mon Tue 01:00-02:00 UTC", "Mon 1-2 UTC"),
        *("Mon 01:60-04:00 UTC", "Mon -1:00-04:00 UTC", "Mon 01:00-04:00, UTC", "Mon 01:00-04:00 ../UTC"),
    ],
)
def test_what_is_not_a_set_of_windows_is_refused(text: str) -> None:
    with pytest.raises(InvalidWindows):
        parse_windows(text)


quarter_hours = st.integers(0, 95).map(lambda quarter: f"{quarter // 4:02}:{quarter % 4 * 15:02}")
texts = st.builds(
    lambda days, start, end, zone: f"{days} {start}-{end} {zone}",
    st.sampled_from(["daily", "Mon-Fri", "Sat-Sun", "Sun", "Fri-Mon"]),
    quarter_hours,
    quarter_hours,
    st.sampled_from(ZONES),
)
starts = st.integers(0, 366 * 96).map(lambda quarters: datetime(2026, 1, 1, tzinfo=UTC) + quarters * QUARTER_HOUR)


@given(text=texts, start=starts, days=st.integers(1, 20))
def test_boundaries_are_just_the_quarter_hours_at_which_membership_changes(
    text: str, start: datetime, days: int
) -> None:
    windows, end = parse_windows(text), start + timedelta(days=days)
    expected, instant = [], start + QUARTER_HOUR
    while instant < end:
        if windows.contains(instant) != windows.contains(instant - QUARTER_HOUR):
            expected.append(instant)
        instant += QUARTER_HOUR
    assert list(windows.boundaries(Period(start, end))) == expected
    following = windows.next_change(start)
    assert following == expected[0] if expected else following is None or following >= end


# Prices


def cut(quantity: int, splits: list[datetime], period: Period = NOVEMBER) -> list[Reading]:
    """A token for every second, as readings cut at the splits; `quantity` times over."""
    return [
        Reading("input_tokens", "sonnet", quantity * Decimal((part.end - part.start) // timedelta(seconds=1)), *span)
        for part in period.split_at(splits)
        for span in [(part.start, part.end)]
    ]


PEAK_AND_OFF_PEAK = (price("1", id="base"), price("2", id="peak", windows=PEAK))


def test_peak_and_off_peak_price_each_second_once() -> None:
    """November 2026 has 21 working days of seven peak hours: 529,200 seconds of 2,592,000."""
    splits = PriceBook(PEAK_AND_OFF_PEAK, currency="USD").boundaries(NOVEMBER)
    assert len(splits) == 21 * 4
    lines = bill(cut(1, splits), [rate_card()], PEAK_AND_OFF_PEAK).lines
    assert [(line.price_row_ids, line.quantity) for line in lines] == [(("base",), 2_062_800), (("peak",), 529_200)]
    assert lines[1].explanation == f"529,200 input tokens × $2.00 per 1,000,000 = $1.0584 ({PEAK})"
    assert lines[1].description == f"sonnet, input tokens, {PEAK}"


def test_nothing_is_peak_before_its_effective_date() -> None:
    rows = [price("1", id="base"), price("2", id="peak", windows=PEAK, since=november(16))]
    splits = PriceBook(rows, currency="USD").boundaries(NOVEMBER)
    lines = bill(cut(1, splits), [rate_card()], rows).lines
    assert {line.price_row_ids[0]: line.quantity for line in lines}["peak"] == 11 * 7 * 3600
    assert lines[1].period == Period(november(16), NOVEMBER.end)


def test_a_window_of_any_model_does_not_touch_a_model_with_its_own_price() -> None:
    rows = [price("1", model="", id="any"), price("2", model="", id="any-peak", windows=PEAK), price("3", id="own")]
    at_peak = Reading("input_tokens", "sonnet", Decimal(1), november(2, 1), november(2, 2))
    other = Reading("input_tokens", "haiku", Decimal(1), november(2, 1), november(2, 2))
    ids = [line.price_row_ids[0] for line in bill([at_peak, other], [rate_card()], rows).lines]
    assert sorted(ids) == ["any-peak", "own"]


def test_a_price_only_for_certain_hours_leaves_the_others_unpriced() -> None:
    rows = [price("2", windows=PEAK)]
    splits = PriceBook(rows, currency="USD").boundaries(NOVEMBER)
    rating = bill(cut(1, splits), [rate_card()], rows)
    assert sum(reading.quantity for reading in rating.unpriced) == 2_062_800


def test_a_reading_across_a_window_is_refused() -> None:
    across = Reading("input_tokens", "sonnet", Decimal(1), november(2), november(2, 2))
    with pytest.raises(ReadingStraddlesPrice):
        bill([across], [rate_card()], PEAK_AND_OFF_PEAK)
    with pytest.raises(ReadingStraddlesWindow):
        bill([across], [per_unit(meter="input_tokens", windows=parse_windows(PEAK))])


@given(text=texts, extra=st.lists(starts, max_size=4))
def test_windows_only_divide_the_usage(text: str, extra: list[datetime]) -> None:
    """At one price inside and outside the bill is that without windows, however finely the usage is cut."""
    rows = [price("1", id="base"), price("1", id="window", windows=text)]
    splits = PriceBook(rows, currency="USD").boundaries(NOVEMBER)
    total = bill(cut(1, [*splits, *extra]), [rate_card()], rows).total_exact
    assert total == bill(cut(1, []), [rate_card()], rows[:1]).total_exact


# Components


def test_components_for_day_and_night_share_the_usage() -> None:
    night = parse_windows("daily 20:00-08:00 Europe/Berlin")
    by_night = per_unit("1", meter="input_tokens", windows=night, scale=Decimal(1_000_000))
    by_day = rate_card()
    splits = boundaries([by_night, by_day], [], NOVEMBER)
    lines = bill(cut(1, splits), [by_night, by_day], [price("2")]).lines
    assert [line.quantity for line in lines] == [30 * 12 * 3600, 30 * 12 * 3600]
    assert lines[0].explanation == (
        "daily 20:00-08:00 Europe/Berlin: 1,296,000 input tokens × $1.00 per 1,000,000 = $1.296"
    )


def test_usage_outside_the_windows_of_the_only_component_is_uncovered() -> None:
    rating = bill([used(5, day=1)], [rate_card(windows=parse_windows(PEAK))], [price("1")])
    assert (rating.lines, rating.uncovered) == ((), (used(5, day=1),))
