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
from metering.aggregation.statement import (
    CORRECTIONS,
    Rule,
    Sql,
    event_types,
    readings,
    rules_between,
    with_corrections,
)
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
SELECT organisation_id, type, project_id, api_key_id, time, data{sign}
FROM {partition} WHERE batch_id = ANY(%s) AND type = ANY(%s)"""

# Which of the claimed batches hold corrections, and whether they correct what is not in the totals yet.
CORRECTING = """
SELECT c.batch_id, bool_or(b.folded_at IS NULL AND b.id <> ALL(%s)) FROM event_correction c
LEFT JOIN ingest_batch b ON b.organisation_id = c.organisation_id AND b.id = c.original_batch_id
WHERE c.batch_id = ANY(%s) GROUP BY c.batch_id"""

CORRECTIONS_OF = "c.batch_id = ANY(%s) AND c.type = ANY(%s)"

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

# What is taken back whole leaves no total behind, as if it had never been.
REMOVE_INTERVALS = """
WITH {readings}
DELETE FROM usage_interval u USING keyed k
WHERE u.organisation_id = k.organisation_id AND u.series_id = k.series_id AND u.starts_at = k.starts_at
  AND u.count = 0 AND u.value = 0"""
REMOVE_DAYS = """
WITH {readings}
DELETE FROM usage_day u USING keyed k JOIN accounts_organisation o ON o.id = k.organisation_id
WHERE u.organisation_id = k.organisation_id AND u.series_id = k.series_id
  AND u.day = (k.starts_at AT TIME ZONE o.days_zone)::date AND u.count = 0 AND u.value = 0"""

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
        claimed, correcting = _part_corrections(cursor, claimed) if claimed else ([], [])
        last_used = _fold(cursor, claimed, correcting) if claimed else []
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


def _part_corrections(cursor: Any, claimed: list[_Claimed]) -> tuple[list[_Claimed], list[int]]:
    """The batches that may be folded now, and the ids of those among them that hold corrections.

    A correction waits for what it corrects, which another worker may hold: no total ever falls below what was used.
    """
    ids = [batch.id for batch in claimed]
    cursor.execute(CORRECTING, [ids, ids])
    waits = dict(cursor.fetchall())
    if not waits:
        return claimed, []
    # What is left out may itself be what another correction waits for.
    ready = [batch for batch in claimed if not waits.get(batch.id)]
    if len(ready) < len(claimed):
        return _part_corrections(cursor, ready)
    return ready, list(waits)


def _fold(cursor: Any, claimed: Sequence[_Claimed], correcting: list[int]) -> list[tuple[int, datetime]]:
    """Add the events of claimed batches to the totals; returns when each API key among them was last used."""
    rules = rules_between(min(batch.first_time for batch in claimed), max(batch.last_time for batch in claimed))
    if not rules:
        return []
    keyed = readings(_events_of(claimed, rules), rules)
    corrections = None
    if correcting:
        condition = Sql(CORRECTIONS_OF, (correcting, event_types(rules)))
        corrections = Sql(CORRECTIONS.format(condition=condition.text), condition.params)
        source = with_corrections(_events_of(claimed, rules, sign=", 1 AS sign"), condition)
        keyed = readings(source, rules, is_signed=True)
    cursor.execute(FOLD.format(readings=keyed.text), keyed.params)
    last_used = list(cursor.fetchall())
    if corrections:
        _remove_empty(cursor, readings(corrections, rules, is_signed=True))
    return last_used


def _remove_empty(cursor: Any, keyed: Sql) -> None:
    for statement in (REMOVE_INTERVALS, REMOVE_DAYS):
        cursor.execute(statement.format(readings=keyed.text), keyed.params)


def _events_of(claimed: Sequence[_Claimed], rules: Sequence[Rule], *, sign: str = "") -> Sql:
    batches: dict[date, list[int]] = {}
    for batch in claimed:
        batches.setdefault(batch.receipt_month, []).append(batch.id)
    types = event_types(rules)
    parts = [SOURCE.format(sign=sign, partition=connection.ops.quote_name(partition_name(month))) for month in batches]
    return Sql(" UNION ALL ".join(parts), tuple(value for ids in batches.values() for value in (ids, types)))
