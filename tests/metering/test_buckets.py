from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from metering.buckets import bucket_of, bucket_starts, midnight
from metering.quarter_hours import QUARTER_HOUR, ceiling, floor, is_aligned

ZONES = ["UTC", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/St_Johns"]
INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(
    start=INSTANTS,
    hours=st.integers(1, 24 * 40),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    granularity=st.sampled_from(["interval", "hour", "day", "month"]),
)
def test_buckets_cover_a_range_without_gap_or_overlap(start, hours, zone, granularity):
    start = floor(start)
    end = start + timedelta(hours=hours)
    starts = bucket_starts(start, end, granularity, zone)
    assert starts == sorted(set(starts))
    assert starts[0] <= start < end
    assert starts[-1] < end
    # Each begins its own bucket, and the last instant before it lies in the one before.
    for before, at in pairwise(starts):
        assert bucket_of(at, granularity, zone) == at
        assert bucket_of(at - timedelta.resolution, granularity, zone) == before


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("year", [2025, 2026])
def test_days_begin_where_postgresql_says(zone, year):
    sql = "SELECT day::date, day::date::timestamp AT TIME ZONE %s FROM generate_series(%s::date, %s, '1 day') AS day"
    with connection.cursor() as cursor:
        cursor.execute(sql, [zone, date(year, 1, 1), date(year, 12, 31)])
        for day, at in cursor.fetchall():
            assert midnight(day, ZoneInfo(zone)) == at, day


@given(INSTANTS)
def test_every_instant_lies_in_one_quarter_hour(at):
    assert floor(at) <= at < floor(at) + QUARTER_HOUR
    assert is_aligned(floor(at))
    assert ceiling(at) - floor(at) in (timedelta(0), QUARTER_HOUR)
