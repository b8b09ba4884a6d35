"""Adding pending batches to the totals: claimed, added and marked in one transaction, hence exactly once.

Any number of workers fold side by side: each claims batches that no other holds, and all write series, quarter hours
and days in the order of their keys, so that they wait for each other and never in a circle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction

from accounts.api_keys import touch_last_used
from accounts.models import Organisation
from metering.aggregation.locks import LOCK_SPACE, MAY_FOLD
from metering.aggregation.statement import Rule, Sql, event_types, readings, rules_between
from metering.partitions import partition_name

# Bounds what one transaction locks; each distinct organisation among them takes an advisory lock.
MOST_BATCHES = 500

# The claimed batches are known by id and their partitions by name: the batch index is the way in even when the table
# has no statistics yet, as a new month's partition has not. Thousands of rows are hashed rather than sorted.
PLANNER = """
SET LOCAL enable_seqscan = off;
SET LOCAL enable_sort = off;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL work_mem = '64MB'"""

# Read through a cursor, since rows are locked as they are fetched.
OPEN_CLAIM = """
DECLARE claim NO SCROLL CURSOR FOR
SELECT id, organisation_id, receipt_month, event_count, first_time, last_time FROM ingest_batch
WHERE folded_at IS NULL AND {may_fold} {only}
ORDER BY id FOR UPDATE SKIP LOCKED"""

SOURCE = """
SELECT organisation_id, type, project_id, api_key_id, time, data
FROM {partition} WHERE batch_id = ANY(%s) AND type = ANY(%s)"""

FOLD = """
WITH {readings},
new_series AS (
    INSERT INTO series (organisation_id, id, meter_id, project_id, api_key_id, model, labels)
    SELECT DISTINCT ON (organisation_id, series_id)
           organisation_id, series_id, meter_id, project_id, api_key_id, model, labels
    FROM keyed ORDER BY organisation_id, series_id
    ON CONFLICT DO NOTHING
),
intervals AS (
    INSERT INTO usage_interval AS kept (organisation_id, series_id, starts_at, value, count)
    SELECT organisation_id, series_id, starts_at, value, count
    FROM keyed ORDER BY organisation_id, series_id, starts_at
    ON CONFLICT (organisation_id, series_id, starts_at)
    DO UPDATE SET value = kept.value + excluded.value, count = kept.count + excluded.count
),
days AS (
    INSERT INTO usage_day AS kept (organisation_id, series_id, day, value, count)
    SELECT organisation_id, series_id, (starts_at AT TIME ZONE days_zone)::date AS day, sum(value), sum(count)::bigint
    FROM keyed JOIN accounts_organisation o ON o.id = organisation_id
    GROUP BY organisation_id, series_id, day ORDER BY organisation_id, series_id, day
    ON CONFLICT (organisation_id, series_id, day)
    DO UPDATE SET value = kept.value + excluded.value, count = kept.count + excluded.count
)
SELECT api_key_id, max(last_time) FROM reading WHERE api_key_id IS NOT NULL GROUP BY api_key_id"""

MARK_FOLDED = "UPDATE ingest_batch SET folded_at = %s WHERE id = ANY(%s)"

LAG = """
SELECT count(*), coalesce(sum(event_count), 0), min(received_at) FROM ingest_batch WHERE folded_at IS NULL {only}"""


@dataclass(frozen=True, slots=True)
class Folded:
    """What one call added to the totals; no batches: nothing was pending."""

    batches: int
    events: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far totals are behind. `oldest_seconds` is 0 when nothing is pending."""

    pending_batches: int
    pending_events: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class _Claimed:
    id: int
    organisation_id: int
    receipt_month: date
    event_count: int
    first_time: datetime
    last_time: datetime


def fold_pending(*, now: datetime, limit_events: int = 50_000, organisation: Organisation | None = None) -> Folded:
    """Claim some pending batches, at least one and about `limit_events` events, and add them to the totals.

    Call it until it says that there were none. Killed at any point, it has done all of this or nothing.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(PLANNER)
        claimed = _claim(cursor, limit_events, organisation)
        last_used = _fold(cursor, claimed) if claimed else []
        cursor.execute(MARK_FOLDED, [now, [batch.id for batch in claimed]])
    if last_used:
        touch_last_used(dict(last_used))
    return Folded(len(claimed), sum(batch.event_count for batch in claimed))


def lag(now: datetime, organisation: Organisation | None = None) -> Lag:
    """What is accepted and not in the totals yet, of one organisation or of all."""
    only, params = ("", []) if organisation is None else ("AND organisation_id = %s", [organisation.pk])
    with connection.cursor() as cursor:
        cursor.execute(LAG.format(only=only), params)
        batches, events, oldest = cursor.fetchone()
    return Lag(batches, int(events), max(0.0, (now - oldest).total_seconds()) if oldest else 0.0)


def _claim(cursor: Any, limit_events: int, organisation: Organisation | None) -> list[_Claimed]:
    """Lock pending batches, oldest first, until they hold `limit_events`: as many at a time as their mean size says."""
    only, params = ("", []) if organisation is None else ("AND organisation_id = %s", [organisation.pk])
    cursor.execute(OPEN_CLAIM.format(may_fold=MAY_FOLD, only=only), [LOCK_SPACE, *params])
    claimed: list[_Claimed] = []
    events, wanted = 0, 1
    while wanted > 0:
        cursor.execute(f"FETCH {wanted} FROM claim")
        rows = [_Claimed(*row) for row in cursor.fetchall()]
        claimed += rows
        events += sum(row.event_count for row in rows)
        if len(rows) < wanted:
            break
        wanted = min(MOST_BATCHES - len(claimed), (limit_events - events) * len(claimed) // max(events, 1))
    cursor.execute("CLOSE claim")
    return claimed


def _fold(cursor: Any, claimed: Sequence[_Claimed]) -> list[tuple[int, datetime]]:
    """Add the events of claimed batches to the totals; returns when each API key among them was last used."""
    rules = rules_between(min(batch.first_time for batch in claimed), max(batch.last_time for batch in claimed))
    if not rules:
        return []
    keyed = readings(_events_of(claimed, rules), rules)
    cursor.execute(FOLD.format(readings=keyed.text), keyed.params)
    return list(cursor.fetchall())


def _events_of(claimed: Sequence[_Claimed], rules: Sequence[Rule]) -> Sql:
    batches: dict[date, list[int]] = {}
    for batch in claimed:
        batches.setdefault(batch.receipt_month, []).append(batch.id)
    types = event_types(rules)
    parts = [SOURCE.format(partition=connection.ops.quote_name(partition_name(month))) for month in batches]
    return Sql(" UNION ALL ".join(parts), tuple(value for ids in batches.values() for value in (ids, types)))
