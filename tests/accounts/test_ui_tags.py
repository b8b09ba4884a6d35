"""Figures and instants are shown exactly as they are."""

from datetime import UTC, date, datetime
from decimal import Decimal
from html import unescape
from json import loads
from zoneinfo import ZoneInfo

import pytest
from django.template import Context, Template
from hypothesis import given
from hypothesis import strategies as st

from accounts.templatetags import ui


def render(source: str, **context: object) -> str:
    return Template("{% load ui %}" + source).render(Context(context))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (18059974, "18,059,974"),
        (-1234567, "-1,234,567"),
        (Decimal("12345.6700"), "12,345.6700"),
        (Decimal("1E+6"), "1,000,000"),
        ("0.000000000012", "0.000000000012"),
        (
            Decimal("123456789012345678901234567890.123456789012"),
            "123,456,789,012,345,678,901,234,567,890.123456789012",
        ),
        (None, ui.UNKNOWN),
    ],
)
def test_grouped_keeps_every_digit(value: object, shown: str) -> None:
    assert ui.grouped(value) == shown


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12))
def test_grouped_is_the_same_number_again(value: Decimal) -> None:
    assert Decimal(ui.grouped(value).replace(",", "")) == value


def test_grouped_rounds_for_show_half_away_from_zero() -> None:
    assert ui.grouped(Decimal("2.345"), 2) == "2.35"
    assert ui.grouped(Decimal("-2.345"), 2) == "-2.35"
    assert ui.grouped(Decimal("2"), 2) == "2.00"


@pytest.mark.parametrize("value", [1.5, True])
def test_floats_and_booleans_are_mistakes(value: object) -> None:
    with pytest.raises(TypeError, match="not an exact number"):
        ui.grouped(value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", Decimal("-Infinity")])
def test_numbers_that_are_none_are_mistakes(value: object) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        ui.grouped(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("0.150000"), "0.15"),
        (Decimal("100.000"), "100"),
        (100, "100"),
        (Decimal("1200"), "1,200"),
    ],
)
def test_trimmed_drops_only_zeros_after_the_point(value: object, shown: str) -> None:
    assert ui.trimmed(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (950, "950"),
        (Decimal("0.123456"), "0.123"),
        (Decimal("999.6"), "1,000"),
        (1000, "1K"),
        (12345, "12.3K"),
        (999_499, "999K"),
        (999_500, "1M"),
        (18059974, "18.1M"),
        (-18059974, "-18.1M"),
        (10**12, "1T"),
        (123 * 10**15, "123,000T"),
        (None, ui.UNKNOWN),
    ],
)
def test_compact_shows_three_digits(value: object, shown: str) -> None:
    assert ui.compact(value) == shown


def test_percent_of_an_unknown_or_zero_limit_is_unknown() -> None:
    assert ui.percent_of(1, 3) == "33.3%"
    assert ui.percent_of(50, 100) == "50%"
    assert ui.percent_of(1, 0) == ui.UNKNOWN
    assert ui.percent_of(1, None) == ui.UNKNOWN


def test_level_turns_at_eighty_and_at_a_hundred_percent() -> None:
    assert [ui.level_of(used, 500) for used in (0, 399, 400, 499, 500, 900)] == [
        "ok",
        "ok",
        "warn",
        "warn",
        "over",
        "over",
    ]


def test_local_time_follows_daylight_saving_and_keeps_utc() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    summer = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    assert ">2 Jul 2026, 00:30</time>" in render("{{ at|local_time:zone }}", at=summer, zone=berlin)
    assert ">1 Jul 2026, 22:30</time>" in render("{{ at|local_time }}", at=summer)
    assert 'title="2026-07-01 22:30:00 UTC"' in render("{{ at|local_time:'Europe/Berlin' }}", at=summer)


def test_local_date_is_the_day_in_the_zone() -> None:
    late = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
    assert "1 Nov 2026" in ui.local_date(late, "Europe/Berlin")
    assert "31 Oct 2026" in ui.local_date(late, "UTC")
    assert ui.local_date(date(2026, 10, 31), "Asia/Tokyo") == '<time datetime="2026-10-31">31 Oct 2026</time>'
    assert ui.local_date(None) == ui.UNKNOWN


def test_time_without_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        ui.local_time(datetime(2026, 1, 1))  # noqa: DTZ001


def test_icon_is_silent_unless_labelled() -> None:
    assert 'aria-hidden="true"' in render("{% icon 'gauge' %}")
    labelled = render("{% icon 'gauge' label='Live & well' %}")
    assert 'role="img"' in labelled
    assert 'aria-label="Live &amp; well"' in labelled
    assert "style=" not in labelled


def test_register_reads_as_one_number() -> None:
    shown = render("{% register value digits=6 %}", value=Decimal("1234.5"))
    assert shown.count('"wheel leading"') == 2
    assert '<span class="wheel fraction">5</span>' in shown
    assert '<span class="visually-hidden">1,234.5</span>' in shown


def test_chart_and_its_table_hold_the_same_exact_values() -> None:
    figure = {
        "title": "Tokens",
        "unit": "tokens",
        "labels": ["1 Nov", "2 Nov"],
        "series": [
            {"name": "Input <b>", "values": [Decimal("18059974.000000000001"), None]},
            {"name": "Output", "values": [245896, 2]},
        ],
    }
    shown = render("{% chart figure 'chart-tokens' %}", figure=figure)
    spec = loads(unescape(shown.split('data-chart="')[1].split('"')[0]))
    assert spec["series"][0]["values"] == ["18059974.000000000001", None]
    assert "18,059,974.000000000001" in shown
    assert "18,305,870.000000000001" in shown
    assert "<b>" not in shown


@pytest.mark.parametrize(
    ("number", "top"), [(0, 100), (100, 100), (101, 200), (4999, 5000), (5001, 10000), (Decimal("999999.5"), 1000000)]
)
def test_scale_of_a_dial_is_round_and_wide_enough(number: int, top: int) -> None:
    assert ui.next_scale(Decimal(number)) == top


def test_needle_stays_on_the_dial() -> None:
    assert ui.dial(50, "now", full_scale=100)["needle"] == "0.00"
    assert ui.dial(900, "now", full_scale=100)["needle"] == "120.00"
    assert ui.dial(None, "now")["needle"] == "-120.00"
