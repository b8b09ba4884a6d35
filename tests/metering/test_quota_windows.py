"""Windows that limits count in: half-open, without gap or overlap, also where clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.quota_windows import FOR_EVER, Span, window_at

KINDS = ("minute", "hour", "day", "week", "month", "billing_period")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")


@given(
    st.integers(0, 25 * 366 * 86_400).map(lambda second: datetime(2010, 1, 1, tzinfo=UTC) + timedelta(seconds=second)),
    st.sampled_from(ZONES).map(ZoneInfo),
    st.sampled_from(KINDS),
)
def test_every_instant_falls_into_one_window_and_windows_follow_one_another(instant, zone, kind):
    span = window_at(kind, instant, zone=zone)

    assert span.start <= instant < span.end
    assert window_at(kind, span.start, zone=zone) == span
    assert window_at(kind, span.end - timedelta(microseconds=1), zone=zone) == span
    assert window_at(kind, span.end, zone=zone).start == span.end


@pytest.mark.parametrize(
    ("kind", "instant", "hours"),
    [
        ("day", datetime(2026, 3, 29, 12, tzinfo=UTC), 23),
        ("day", datetime(2026, 10, 25, 12, tzinfo=UTC), 25),
        ("week", datetime(2026, 3, 29, 12, tzinfo=UTC), 7 * 24 - 1),
        ("month", datetime(2026, 10, 5, tzinfo=UTC), 31 * 24 + 1),
    ],
)
def test_days_weeks_and_months_are_those_of_the_zone(kind, instant, hours):
    span = window_at(kind, instant, zone=ZoneInfo("Europe/Berlin"))

    assert span.start.astimezone(ZoneInfo("Europe/Berlin")).hour == 0
    assert span.end - span.start == timedelta(hours=hours)


def test_a_billing_period_is_what_billing_wrote_and_for_ever_never_ends():
    period = Span(datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 12, 3, tzinfo=UTC))
    instant = datetime(2026, 11, 20, tzinfo=UTC)

    assert window_at("billing_period", instant, zone=ZoneInfo("UTC"), billing=period) == period
    assert window_at("none", instant, zone=ZoneInfo("UTC")) == FOR_EVER
