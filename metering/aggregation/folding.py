"""Adding pending batches to the totals: claimed, added and marked in one transaction, hence exactly once.

Any number of workers fold side by side: each claims batches that no other holds, and all write series, quarter hours
and days in the order of their keys, so that they wait for each other and never in a circle. Where corrections take back
what cannot be subtracted, one worker folds the organisation alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from accounts.api_keys import touch_last_used
from accounts.models import Organisation
from metering.admission.counting import follow, organisations_that_count
from metering.aggregation.changes import note_written
from metering.aggregation.entries import entries, merges
from metering.aggregation.locks import LOCK_SPACE, MAY_FOLD, rebuild_alone
from metering.aggregation.members import Sql
from metering.aggregation.minutes import used_by_minute
from metering.aggregation.remaking import remake_corrected
from metering.aggregation.rules import Rule, event_types, others, rules_between, summed
from metering.aggregation.statement import CORRECTIONS, ZONES, readings, with_corrections
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
SELECT organisation_id, type, project_id, api_key_id, time, {extra}data{sign}
FROM {partition} WHERE batch_id = ANY(%s) AND type = ANY(%s)"""

# Which of the claimed batches hold corrections, whether they correct what is not in the totals yet, and of which types.
CORRECTING = """
SELECT c.batch_id, bool_or(b.folded_at IS NULL AND b.id <> ALL(%s)), array_agg(DISTINCT c.type) FROM event_correction c
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
    ON CONFLICT DO NOTHING RETURNING organisation_id, meter_id
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
    FROM keyed {zones}
    GROUP BY organisation_id, series_id, day ORDER BY organisation_id, series_id, day
    ON CONFLICT (organisation_id, series_id, day)
    DO UPDATE SET value = kept.value + excluded.value, count = kept.count + excluded.count
)
SELECT api_key_id, max(last_time), 0 FROM reading WHERE api_key_id IS NOT NULL GROUP BY api_key_id
{crowded}"""
# The organisations and meters that got many new series at once; no instant marks them.
CROWDED = """UNION ALL
SELECT organisation_id, NULL, meter_id FROM new_series GROUP BY organisation_id, meter_id HAVING count(*) >= %s"""

MERGE = """
WITH {entries},
new_series AS (
    INSERT INTO series (organisation_id, id, meter_id, project_id, api_key_id, model, labels)
    SELECT DISTINCT ON (organisation_id, series_id)
           organisation_id, series_id, meter_id, project_id, api_key_id, model, labels
    FROM state ORDER BY organisation_id, series_id
    ON CONFLICT DO NOTHING RETURNING organisation_id, meter_id
),
{merges}
SELECT api_key_id, max(last_time), 0 FROM grouped WHERE api_key_id IS NOT NULL GROUP BY api_key_id
{crowded}"""

# What is taken back whole leaves no total behind, as if it had never been.
REMOVE_INTERVALS = """
WITH {readings}
DELETE FROM usage_interval u USING keyed k
WHERE u.organisation_id = k.organisation_id AND u.series_id = k.series_id AND u.starts_at = k.starts_at
  AND u.count = 0 AND u.value = 0"""
REMOVE_DAYS = """
WITH {readings}
DELETE FROM usage_day u USING keyed k {zones}
WHERE u.organisation_id = k.organisation_id AND u.series_id = k.series_id
  AND u.day = (k.starts_at AT TIME ZONE days_zone)::date AND u.count = 0 AND u.value = 0"""

MARK_FOLDED = "UPDATE ingest_batch SET folded_at = %s WHERE id = ANY(%s)"

LAG = """
SELECT count(*), coalesce(sum(event_count), 0), min(received_at) FROM ingest_batch WHERE folded_at IS NULL {only}"""


@dataclass(frozen=True, slots=True)
class Folded:
    """What one call added to the totals; no batches: nothing was pending."""

    batches: int
    events: int
    # (organisation, meter) that got so many new series in this fold that somebody should look if they are too many.
    crowded: frozenset[tuple[int, int]] = frozenset()


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


@dataclass(frozen=True, slots=True)
class _Work:
    """Claimed batches, what those among them that hold corrections correct, and the rules that read any of it."""

    claimed: Sequence[_Claimed]
    # Batch -> types of the events that its corrections name.
    corrected_types: Mapping[int, Sequence[str]]
    rules: Sequence[Rule]

    def organisations_to_fold_alone(self) -> list[int]:
        """Those with corrections that take back what cannot be subtracted."""
        types = set(event_types(others(self.rules)))
        return sorted(
            {one.organisation_id for one in self.claimed if types.intersection(self.corrected_types.get(one.id, ()))}
        )

    def without(self, organisation_ids: Collection[int]) -> "_Work":
        claimed = [one for one in self.claimed if one.organisation_id not in organisation_ids]
        kept = {one.id for one in claimed}
        types = {batch_id: types for batch_id, types in self.corrected_types.items() if batch_id in kept}
        return _Work(claimed, types, self.rules)

    def folded(self, added: "_Added") -> Folded:
        return Folded(len(self.claimed), sum(one.event_count for one in self.claimed), frozenset(added.crowded))


@dataclass(frozen=True, slots=True)
class _Added:
    """What adding to the totals brought to light."""

    # API key -> its latest event.
    last_used: dict[int, datetime] = field(default_factory=dict)
    # (organisation, meter) with many new series.
    crowded: set[tuple[int, int]] = field(default_factory=set)

    def note(self, rows: Iterable[tuple[int, datetime | None, int]]) -> None:
        for one, at, meter_id in rows:
            if at is None:
                self.crowded.add((one, meter_id))
            else:
                self.last_used[one] = max(at, self.last_used.get(one, at))


def fold_pending(*, now: datetime, limit_events: int = 50_000, organisation: Organisation | None = None) -> Folded:
    """Claim some pending batches, at least one and about `limit_events` events, and add them to the totals.

    Call it until it says that there were none. Killed at any point, it has done all of this or nothing.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(PLANNER)
        work = _claim_work(cursor, limit_events, organisation)
        alone = work.organisations_to_fold_alone()
        work = work.without(alone)
        added = _add(cursor, work, now)
    touch_last_used(added.last_used)
    folded = work.folded(added)
    for organisation_id in alone:
        one = _fold_alone(organisation_id, now=now, limit_events=limit_events)
        folded = Folded(folded.batches + one.batches, folded.events + one.events, folded.crowded | one.crowded)
    return folded


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


def _claim_work(cursor: Any, limit_events: int, organisation: Organisation | None) -> _Work:
    claimed = _claim(cursor, limit_events, organisation)
    if not claimed:
        return _Work([], {}, [])
    claimed, corrected_types = _part_corrections(cursor, claimed)
    if not claimed:
        return _Work([], {}, [])
    rules = rules_between(min(one.first_time for one in claimed), max(one.last_time for one in claimed))
    return _Work(claimed, corrected_types, rules)


def _part_corrections(cursor: Any, claimed: list[_Claimed]) -> tuple[list[_Claimed], dict[int, list[str]]]:
    """The batches that may be folded now, and of those among them that hold corrections, what types they correct.

    A correction waits for what it corrects, which another worker may hold: no total ever falls below what was used.
    """
    ids = [batch.id for batch in claimed]
    cursor.execute(CORRECTING, [ids, ids])
    found = cursor.fetchall()
    if not found:
        return claimed, {}
    # What is left out may itself be what another correction waits for.
    waiting = {batch_id for batch_id, waits, _ in found if waits}
    ready = [batch for batch in claimed if batch.id not in waiting]
    if len(ready) < len(claimed):
        return _part_corrections(cursor, ready)
    return ready, {batch_id: types for batch_id, _, types in found}


def _fold_alone(organisation_id: int, *, now: datetime, limit_events: int) -> Folded:
    """Fold batches of one organisation while nobody else does, and make anew what their corrections took back."""
    with transaction.atomic(), connection.cursor() as cursor:
        rebuild_alone(cursor, organisation_id)
        cursor.execute(PLANNER)
        work = _claim_work(cursor, limit_events, Organisation(pk=organisation_id))
        added = _add(cursor, work, now)
        if rest := others(work.rules):
            remake_corrected(cursor, organisation_id, list(work.corrected_types), rest)
    touch_last_used(added.last_used)
    return work.folded(added)


def _add(cursor: Any, work: _Work, now: datetime) -> _Added:
    """Add the events of claimed batches to the totals and mark them."""
    added = _Added()
    if not work.claimed:
        return added
    sums, rest = summed(work.rules), others(work.rules)
    if sums:
        added.note(_fold_sums(cursor, work.claimed, list(work.corrected_types), sums))
    if rest:
        added.note(_merge_others(cursor, work.claimed, rest))
    cursor.execute(MARK_FOLDED, [now, [batch.id for batch in work.claimed]])
    times = ((one.organisation_id, one.first_time, one.last_time + timedelta.resolution) for one in work.claimed)
    note_written(cursor, times)
    _follow(cursor, work, sums, now)
    return added


def _follow(cursor: Any, work: _Work, rules: Sequence[Rule], now: datetime) -> None:
    """Quotas' counters follow, last of all: calls that wait for a counter wait as briefly as can be."""
    organisations = organisations_that_count(cursor, {one.organisation_id for one in work.claimed})
    claimed = [one for one in work.claimed if one.organisation_id in organisations]
    if not claimed:
        return
    corrections = None
    if correcting := [one.id for one in claimed if one.id in work.corrected_types]:
        condition = Sql(CORRECTIONS_OF, (correcting, event_types(rules)))
        corrections = Sql(CORRECTIONS.format(condition=condition.text), condition.params)
    events = _events_of(claimed, rules, extra="key, ")
    follow(used_by_minute(cursor, events, rules, corrections=corrections), now)


def _fold_sums(
    cursor: Any, claimed: Sequence[_Claimed], correcting: list[int], rules: Sequence[Rule]
) -> list[tuple[int, datetime | None, int]]:
    keyed = readings(_events_of(claimed, rules), rules)
    corrections = None
    if correcting:
        condition = Sql(CORRECTIONS_OF, (correcting, event_types(rules)))
        corrections = Sql(CORRECTIONS.format(condition=condition.text), condition.params)
        source = with_corrections(_events_of(claimed, rules, sign=", 1 AS sign"), condition)
        keyed = readings(source, rules, is_signed=True)
    statement = FOLD.format(readings=keyed.text, zones=ZONES.format(of="keyed"), crowded=CROWDED)
    cursor.execute(statement, [*keyed.params, _crowd()])
    found = list(cursor.fetchall())
    if corrections:
        _remove_empty(cursor, readings(corrections, rules, is_signed=True))
    return found


def _remove_empty(cursor: Any, keyed: Sql) -> None:
    for statement in (REMOVE_INTERVALS, REMOVE_DAYS):
        cursor.execute(statement.format(readings=keyed.text, zones=ZONES.format(of="k")), keyed.params)


def _merge_others(
    cursor: Any, claimed: Sequence[_Claimed], rules: Sequence[Rule]
) -> list[tuple[int, datetime | None, int]]:
    found = entries(_events_of(claimed, rules, extra="key, "), rules)
    statement = MERGE.format(entries=found.text, merges=merges(rules), crowded=CROWDED)
    cursor.execute(statement, [*found.params, _crowd()])
    return list(cursor.fetchall())


def _crowd() -> int:
    """New series of one fold that are worth a look; fewer at a time are found by the sweep."""
    return max(1, settings.SERIES_PER_MONTH // 20)


def _events_of(claimed: Sequence[_Claimed], rules: Sequence[Rule], *, extra: str = "", sign: str = "") -> Sql:
    batches: dict[date, list[int]] = {}
    for batch in claimed:
        batches.setdefault(batch.receipt_month, []).append(batch.id)
    types = event_types(rules)
    parts = [
        SOURCE.format(extra=extra, sign=sign, partition=connection.ops.quote_name(partition_name(month)))
        for month in batches
    ]
    return Sql(" UNION ALL ".join(parts), tuple(value for ids in batches.values() for value in (ids, types)))
