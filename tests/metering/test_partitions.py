from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from django.db import connection

from metering.partitions import add_months, ensure_event_partitions, ensure_partitions, month_of, partition_name

pytestmark = pytest.mark.django_db


def partitions():
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event'::regclass")
        return {name for (name,) in cursor.fetchall()}


def test_last_month_this_month_and_the_next_three_are_made():
    made = ensure_event_partitions(now=datetime(2040, 11, 15, tzinfo=UTC))
    assert made == ["event_2040_10", "event_2040_11", "event_2040_12", "event_2041_01", "event_2041_02"]
    assert set(made) <= partitions()


def test_making_them_again_does_nothing():
    now = datetime(2040, 11, 15, tzinfo=UTC)
    ensure_event_partitions(now=now)
    assert ensure_event_partitions(now=now) == []


def test_a_table_that_was_made_and_not_attached_is_attached():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE event_2040_11 (LIKE event)")
    assert ensure_partitions([date(2040, 11, 1)]) == ["event_2040_11"]
    assert "event_2040_11" in partitions()


def test_a_new_partition_is_unique_append_only_and_tuned():
    ensure_partitions([date(2040, 11, 1)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisunique FROM pg_index WHERE indrelid = 'event_2040_11'::regclass")
        assert sorted(unique for (unique,) in cursor.fetchall()) == [False, False, True]
        cursor.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'event_2040_11'::regclass")
        assert cursor.fetchone() == (1,)
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'event_2040_11'")
        assert any(option.startswith("autovacuum_vacuum_insert") for option in cursor.fetchone()[0])


def test_the_month_is_that_of_utc():
    assert month_of(datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))) == date(2026, 11, 1)
    assert month_of(datetime(2026, 12, 1, tzinfo=UTC)) == date(2026, 12, 1)


@pytest.mark.parametrize(
    ("count", "month"), [(0, (2026, 11)), (1, (2026, 12)), (2, (2027, 1)), (-11, (2025, 12)), (26, (2029, 1))]
)
def test_months_are_stepped_over_years(count, month):
    assert add_months(date(2026, 11, 1), count) == date(*month, 1)


def test_names_sort_like_months():
    assert partition_name(date(2026, 3, 31)) == "event_2026_03"
