"""How events reach the table: binary COPY straight into the partition of the month, one batch row per organisation.

Speaks SQL and PostgreSQL's binary COPY format, and holds no rule: which of two bodies wins is `metering.verdicts`'s
to say. Every function runs inside the caller's transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from struct import Struct
from typing import Any

import msgspec
from django.db import connection
from django.db.backends.utils import CursorWrapper

from accounts.api_auth import LIVE_TOKEN
from accounts.prepared import Uuids, run_prepared
from metering.drafts import Draft
from metering.identity import identity
from metering.partitions import add_months, month_of, partition_name


class Candidate(msgspec.Struct, gc=False):
    """An event that may be accepted if it is not known yet."""

    # Its place in the request.
    position: int
    draft: Draft
    organisation_id: int
    project_id: int
    api_key_id: int | None
    # See metering.identity.
    key: bytes
    identity: bytes
    time: datetime
    time_assumed: bool
    meters: tuple[str, ...]


def _by_organisation(candidates: Iterable[Candidate]) -> list[tuple[int, list[Candidate]]]:
    """Organisation ids, each with its candidates."""
    groups: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.organisation_id, []).append(candidate)
    return sorted(groups.items())


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored under an identity."""

    type: str
    subject: str
    time: datetime
    time_assumed: bool
    # JSON
    data: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """What the events of one request have in common."""

    format: str
    # None: a command.
    service_token_id: int | None
    received_at: datetime

    @property
    def receipt_month(self) -> date:
        return month_of(self.received_at)


# --- Looking up -------------------------------------------------------------------------------------------------------

# The timeout keeps a transaction that began before a month's turn from lasting until after it (see `near_month_turn`).
# OFFSET 0 holds the planner to one index scan per organisation: without statistics, as in a young partition, it would
# sort the whole month.
_FIND_KNOWN = """
SET LOCAL statement_timeout = '60s';
SELECT e.* FROM (VALUES {wanted}) AS wanted (organisation_id, keys)
CROSS JOIN LATERAL (
    SELECT organisation_id, key, type, subject, time, time_assumed, data::text FROM event
    WHERE organisation_id = wanted.organisation_id AND key = ANY(wanted.keys){months} OFFSET 0
) AS e
"""
_IN_MONTHS = " AND receipt_month = ANY(%s::date[])"


def find_known(
    cursor: CursorWrapper, candidates: Sequence[Candidate], months: Sequence[date] | None
) -> dict[bytes, Known]:
    """Events received in these months, None for all, under the identities of the candidates."""
    values: list[Any] = []
    for organisation_id, members in _by_organisation(candidates):
        values += [organisation_id, _array([candidate.key for candidate in members])]
    wanted = ", ".join(["(%s::bigint, %s::uuid[])"] * (len(values) // 2))
    if months is None:
        cursor.execute(_FIND_KNOWN.format(wanted=wanted, months=""), values)
    else:
        cursor.execute(_FIND_KNOWN.format(wanted=wanted, months=_IN_MONTHS), [*values, list(months)])
    cursor.nextset()
    return {
        identity(organisation_id, key.bytes): Known(type, subject, time, time_assumed, data.encode())
        for organisation_id, key, type, subject, time, time_assumed, data in cursor.fetchall()
    }


TURN = timedelta(minutes=5)
_TURN_LOCK = 5_071_202


def near_month_turn(now: datetime) -> bool:
    """Within five minutes of a change of the receipt month, when one process may be in the new month before another."""
    return month_of(now - TURN) != month_of(now + TURN)


def lock_month_turn(cursor: CursorWrapper, candidates: Iterable[Candidate]) -> None:
    """One transaction at a time per organisation: the unique index cannot see across two months."""
    for organisation_id in sorted({candidate.organisation_id for candidate in candidates}):
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_TURN_LOCK, organisation_id % 2**31])


def months_to_search(now: datetime, oldest: datetime, tolerance: timedelta) -> list[date]:
    """Months of receipt, but the current one, in which an event with a time from `oldest` on may have been received.

    It may have been received while its time still lay in the future, by as much as clocks may differ.
    """
    current, month, months = month_of(now), month_of(oldest - tolerance), []
    while month < current:
        months.append(month)
        month = add_months(month, 1)
    return [*months, add_months(current, 1)] if near_month_turn(now) else months


# --- Writing ----------------------------------------------------------------------------------------------------------

# What the events of a subject, type and source share comes first, since it is put together once.
_COLUMNS = (
    "organisation_id, batch_id, project_id, api_key_id, receipt_month, source, type, subject, "
    "time, key, time_assumed, event_id, data"
)
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# Each column after its length in bytes; -1 stands for null.
_SHARED_NUMBERS = Struct(">hiqiqiq").pack
_NUMBER = Struct(">iq").pack
_NULL = Struct(">i").pack(-1)
_DAY = Struct(">ii").pack
_LENGTH = Struct(">i").pack
# Time, key, whether the time is assumed, and the length of the id.
_OWN = Struct(">iqi16sibi").pack
# Length and version byte of a jsonb value.
_JSONB = Struct(">ib").pack
_COLUMN_COUNT = 13
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.date()
_MICROSECOND = timedelta(microseconds=1)


# Rows of batches, unless an event of theirs is known: one of any in earlier months, or one of the ends in this one.
# Months are part of the text, since a parameter would leave no partition out of a prepared plan.
# OFFSET 0 holds the planner to one index scan per organisation, as above; the timeout is for the COPY that follows.
_OPEN_BATCHES = """
WITH batch AS MATERIALIZED (
    SELECT b.*, (%(keys)s::uuid[])[b.first_key : b.last_key] AS keys
    FROM jsonb_to_recordset(%(batches)s::jsonb) AS b (organisation bigint, first_key int, last_key int, ends uuid[],
        events int, unmatched int, first_time timestamptz, last_time timestamptz)
    WHERE set_config('statement_timeout', '60s', true) IS NOT NULL
),
known AS (
    SELECT FROM batch CROSS JOIN LATERAL (
        SELECT FROM event
        WHERE organisation_id = batch.organisation AND key = ANY(batch.keys)
          AND receipt_month = ANY({months}) OFFSET 0) AS earlier
    UNION ALL
    SELECT FROM batch CROSS JOIN LATERAL (
        SELECT FROM {partition} WHERE organisation_id = batch.organisation AND key = ANY(batch.ends) OFFSET 0) AS resent
)
INSERT INTO ingest_batch (organisation_id, event_count, unmatched_count, first_time, last_time, receipt_month,
    received_at, format, service_token_id)
SELECT organisation, events, unmatched, first_time, last_time, %(month)s, %(received_at)s, %(format)s, %(token)s
FROM batch WHERE NOT EXISTS (SELECT FROM known) AND (%(is_confirmed)s OR {live_token})
RETURNING organisation_id, id
"""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Search:
    """Where new events are looked for."""

    # Earlier months, for all of them.
    months: Sequence[date]
    # Those of these keys in the current month too.
    ends: frozenset[bytes]


def open_batches(
    candidates: Sequence[Candidate], origin: Origin, search: Search, *, is_token_confirmed: bool
) -> dict[int, int]:
    """The batch rows of candidates, organisation id -> batch id; none if one of them is found, or if the token that
    nobody has confirmed is not live."""
    keys: list[bytes] = []
    batches = []
    for organisation_id, members in _by_organisation(candidates):
        own = [candidate.key for candidate in members]
        events, unmatched, first_time, last_time = _summary(members)
        batch: dict[str, Any] = {"organisation": organisation_id, "ends": _array(search.ends.intersection(own))}
        batch |= {"first_key": len(keys) + 1, "last_key": len(keys) + len(own)}
        batch |= {"events": events, "unmatched": unmatched, "first_time": first_time, "last_time": last_time}
        batches.append(batch)
        keys += own
    month = origin.receipt_month
    values = {
        "keys": Uuids.of(keys),
        "batches": _encode(batches).decode(),
        "month": month,
        "received_at": origin.received_at,
        "format": origin.format,
        "token": origin.service_token_id,
        "is_confirmed": is_token_confirmed,
    }
    months = months_text(search.months)
    statement = _OPEN_BATCHES.format(partition=partition_name(month), months=months, live_token=LIVE_TOKEN)
    return dict(run_prepared(statement, values).fetchall())


def months_text(months: Iterable[date]) -> str:
    """As an array in SQL."""
    return "'{" + ",".join([str(month) for month in months]) + "}'::date[]"


def _array(keys: Iterable[bytes]) -> str:
    """UUIDs as PostgreSQL writes an array of them."""
    return "{" + ",".join([key.hex() for key in keys]) + "}"


# The id is reserved before on the path for duplicates, where the count is known only after the insert.
_INSERT_BATCHES = """
INSERT INTO ingest_batch (id, organisation_id, event_count, unmatched_count, first_time, last_time, receipt_month,
    received_at, format, service_token_id)
VALUES {rows} RETURNING organisation_id, id
"""
_BATCH_ROW = "(coalesce(%s, nextval(pg_get_serial_sequence('ingest_batch', 'id'))), %s, %s, %s, %s, %s, %s, %s, %s, %s)"


def insert_batches(
    cursor: CursorWrapper,
    candidates: Sequence[Candidate],
    origin: Origin,
    reserved: dict[int, int] | None = None,
) -> dict[int, int]:
    """One row per organisation; returns organisation id -> batch id."""
    shared = (origin.receipt_month, origin.received_at, origin.format, origin.service_token_id)
    values: list[Any] = []
    for organisation_id, members in _by_organisation(candidates):
        values += [(reserved or {}).get(organisation_id), organisation_id, *_summary(members), *shared]
    rows = len(values) // _BATCH_ROW.count("%s")
    cursor.execute(_INSERT_BATCHES.format(rows=", ".join([_BATCH_ROW] * rows)), values)
    return dict(cursor.fetchall())


def _summary(members: Sequence[Candidate]) -> tuple[int, int, datetime, datetime]:
    times = [candidate.time for candidate in members]
    return len(times), sum([not candidate.meters for candidate in members]), min(times), max(times)


def copy_events(
    cursor: CursorWrapper, candidates: Sequence[Candidate], batch_ids: dict[int, int], month: date, table: str = ""
) -> None:
    """COPY into the partition of the month, or into another table of the same shape."""
    rows = binary_rows(candidates, batch_ids, month)
    with connection.wrap_database_errors, cursor.copy(copy_statement(table or partition_name(month))) as copy:
        copy.write(rows)


def copy_statement(table: str) -> str:
    """Reads what `binary_rows` writes."""
    return f"COPY {table} ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"


def binary_rows(candidates: Sequence[Candidate], batch_ids: dict[int, int], month: date) -> bytes:
    """The rows in PostgreSQL's binary COPY format; `data` passes through as the bytes that arrived.

    In the order of their identities, so that rivals wait for each other in one order. Each is put together in the
    candidates' order before, while what it is made of lies side by side in memory.
    """
    rows: dict[bytes, bytes] = {}
    days = (month - _EPOCH_DAY).days
    shared: dict[tuple[int, str, str, str], bytes] = {}
    for candidate in candidates:
        draft = candidate.draft
        # Within a request, a subject is always the same credential.
        names = (candidate.organisation_id, draft.source, draft.type, draft.subject)
        beginning = shared.get(names)
        if beginning is None:
            shared[names] = beginning = _shared_columns(candidate, batch_ids[candidate.organisation_id], days)
        event_id, data = draft.event_id.encode(), draft.raw_data
        microseconds = (candidate.time - _EPOCH) // _MICROSECOND
        own = _OWN(8, microseconds, 16, candidate.key, 1, candidate.time_assumed, len(event_id))
        rows[candidate.identity] = b"".join((beginning, own, event_id, _JSONB(len(data) + 1, 1), data))
    return b"".join([_HEADER, *[rows[identity] for identity in sorted(rows)], _TRAILER])


def _shared_columns(candidate: Candidate, batch_id: int, days: int) -> bytes:
    head = _SHARED_NUMBERS(_COLUMN_COUNT, 8, candidate.organisation_id, 8, batch_id, 8, candidate.project_id)
    api_key = _NULL if candidate.api_key_id is None else _NUMBER(8, candidate.api_key_id)
    draft = candidate.draft
    return b"".join([head, api_key, _DAY(4, days), *map(_text, (draft.source, draft.type, draft.subject))])


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _LENGTH(len(encoded)) + encoded


# --- The path for requests with duplicates ----------------------------------------------------------------------------

# Like the index, rivals for the same identity wait here for each other's end; the loser's row is left out.
_INSERT_STAGED = """
INSERT INTO {partition} ({columns}) SELECT {columns} FROM staged_event ORDER BY organisation_id, key
ON CONFLICT DO NOTHING RETURNING organisation_id, key
"""


def insert_unless_known(cursor: CursorWrapper, candidates: Sequence[Candidate], origin: Origin) -> set[bytes]:
    """Insert those whose identity is new in the month, with their batch rows; return the identities inserted."""
    reserved = _reserve_batch_ids(cursor, candidates)
    month = origin.receipt_month
    cursor.execute("CREATE TEMPORARY TABLE staged_event (LIKE event)")
    copy_events(cursor, candidates, reserved, month, "staged_event")
    cursor.execute(_INSERT_STAGED.format(partition=partition_name(month), columns=_COLUMNS))
    inserted = {identity(organisation_id, key.bytes) for organisation_id, key in cursor.fetchall()}
    cursor.execute("DROP TABLE staged_event")
    winners = [candidate for candidate in candidates if candidate.identity in inserted]
    if winners:
        insert_batches(cursor, winners, origin, reserved)
    return inserted


def _reserve_batch_ids(cursor: CursorWrapper, candidates: Sequence[Candidate]) -> dict[int, int]:
    organisations = sorted({candidate.organisation_id for candidate in candidates})
    cursor.execute(
        "SELECT o, nextval(pg_get_serial_sequence('ingest_batch', 'id')) FROM unnest(%s::bigint[]) AS o",
        [organisations],
    )
    return dict(cursor.fetchall())
