"""The monthly partitions of `event`, by month of receipt in UTC.

Made ahead by beat and by migration; intake makes a missing one when it meets it. Making one never holds up readers
or writers of the others: the table is made apart and then attached, which needs no exclusive lock on the parent.
Which ones may be dropped is for `metering.retention` to say.
"""

import re
from datetime import UTC, date, datetime

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

MONTHS_AHEAD = 3
# Held while partitions are made, so that two processes do not make the same one.
_LOCK = 5_071_201

# Rows are only ever added, and an aborted COPY leaves a few dead ones. So: keep the visibility map and the statistics
# fresh after every twentieth of growth, and freeze rows at the first visit, since they never change.
_STORAGE = (
    "autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.02, "
    "autovacuum_analyze_scale_factor = 0.05, autovacuum_freeze_min_age = 0"
)

# The columns of `event`, by what they must be aligned to: `data` begins at byte 60, and no byte before it is empty.
_COLUMNS = (
    "organisation_id bigint NOT NULL, batch_id bigint NOT NULL, time timestamptz NOT NULL, project_id bigint NOT NULL, "
    "api_key_id bigint, key uuid NOT NULL, receipt_month date NOT NULL, data jsonb NOT NULL, source text NOT NULL, "
    "event_id text NOT NULL, type text NOT NULL, subject text NOT NULL, time_assumed boolean NOT NULL"
)

# Longer than any statement of ours takes, so that only one that hangs is given up on.
_LONGEST_WAIT = "15min"
_NAME = re.compile(r"event_[0-9]{4}_[0-9]{2}")
_ATTACHED = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'event'::regclass AND NOT i.inhdetachpending"""
_IS_PENDING = """
SELECT inhdetachpending FROM pg_inherits WHERE inhparent = 'event'::regclass AND inhrelid = to_regclass(%s)"""


def month_of(instant: datetime) -> date:
    """The first day of an instant's month in UTC: the value of `receipt_month`."""
    return instant.astimezone(UTC).date().replace(day=1)


def add_months(month: date, count: int) -> date:
    """The first day of the month `count` months later, or earlier if negative."""
    index = month.year * 12 + month.month - 1 + count
    return date(index // 12, index % 12 + 1, 1)


def partition_name(month: date) -> str:
    """`event_2026_11` for any day of November 2026."""
    return f"event_{month.year:04}_{month.month:02}"


def identity_index(partition: str) -> str:
    """What makes an identity unique within a month. An index of `event` itself would need `receipt_month` as well,
    which is the same in every row: an eighth of the table's indexes for nothing."""
    return f"CREATE UNIQUE INDEX IF NOT EXISTS {partition}_identity ON {partition} (organisation_id, key)"


def ensure_event_partitions(months_ahead: int = MONTHS_AHEAD, now: datetime | None = None) -> list[str]:
    """Make the partitions from last month to `months_ahead` months from `now`; return the names of those made."""
    current = month_of(now or timezone.now())
    return ensure_partitions([add_months(current, step) for step in range(-1, months_ahead + 1)])


def ensure_partitions(months: list[date]) -> list[str]:
    """Make the partitions of these months; return the names of those that were missing. Safe to run twice at once."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        missing = [month for month in months if not _is_attached(cursor, partition_name(month))]
        for month in missing:
            _make(cursor, month)
    return [partition_name(month) for month in missing]


def months_kept() -> list[date]:
    """The months that have a partition, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_ATTACHED)
        names = sorted(name for (name,) in cursor.fetchall())
    return [date(int(name[6:10]), int(name[11:13]), 1) for name in names if _NAME.fullmatch(name)]


def detach_partition(month: date) -> None:
    """Take a month away from `event` while others read and write it; goes on where an earlier attempt broke off.

    Waits for the transactions that use `event` at this moment, and raises OperationalError when one takes too long.
    PostgreSQL refuses to do it within a transaction.
    """
    name = partition_name(month)
    with connection.cursor() as cursor:
        cursor.execute(_IS_PENDING, [name])
        if (row := cursor.fetchone()) is not None:
            cursor.execute("SET statement_timeout = %s", [_LONGEST_WAIT])
            try:
                cursor.execute(f"ALTER TABLE event DETACH PARTITION {name} {'FINALIZE' if row[0] else 'CONCURRENTLY'}")
            finally:
                cursor.execute("RESET statement_timeout")


def drop_detached(month: date) -> None:
    """Drop the table of a month that was taken away before."""
    with connection.cursor() as cursor:
        if _is_attached(cursor, partition_name(month)):
            raise ValueError(f"{partition_name(month)} is still part of event.")
        cursor.execute(f"DROP TABLE IF EXISTS {partition_name(month)}")


def _is_attached(cursor: CursorWrapper, name: str) -> bool:
    cursor.execute(
        "SELECT 1 FROM pg_inherits WHERE inhparent = 'event'::regclass AND inhrelid = to_regclass(%s)", [name]
    )
    return cursor.fetchone() is not None


def _make(cursor: CursorWrapper, month: date) -> None:
    name, after = partition_name(month), add_months(month, 1)
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} ({_COLUMNS}) WITH ({_STORAGE})")
    cursor.execute(identity_index(name))
    cursor.execute(f"ALTER TABLE event ATTACH PARTITION {name} FOR VALUES FROM ('{month}') TO ('{after}')")
