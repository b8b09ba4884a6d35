"""Small requests of the same moment stored together: one statement, one round trip, one flush to disk for all of them.

Each keeps batch rows of its own, and none waits for others to come (`accounts.gathering`). What is not stored here,
because it is known, a rival holds it up, its token has ended or anything failed, is handed back to its request, which
goes on by itself: no event and no rival of one request ever touches another's.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import Any

import msgspec
from django.db import DatabaseError, connection, transaction

from accounts.api_auth import LIVE_TOKEN
from accounts.gathering import Gathering
from accounts.prepared import run_prepared
from metering.event_store import Candidate, Origin, months_text
from metering.partitions import partition_name

# A rival who takes longer is waited for by the request that it rivals, and not by the others.
LONGEST_WAIT = "100ms"

# Earlier months are searched one event at a time: `OFFSET 0` keeps the planner, which may have no statistics yet, from
# joining whole months. Rows are inserted in the order of the index, so that rivals never wait in a circle.
_INSERT = """
WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', %(longest_wait)s, true)),
batch AS MATERIALIZED (
    SELECT b.*, nextval(pg_get_serial_sequence('ingest_batch', 'id')) AS id
    FROM patience, jsonb_to_recordset(%(batches)s::jsonb) AS b (number int, organisation bigint,
        received_at timestamptz, format text, token bigint, is_confirmed boolean)
    WHERE is_confirmed OR {live_token}
),
sent AS MATERIALIZED (
    SELECT e.*, batch.id AS batch_id, batch.organisation
    FROM jsonb_to_recordset(%(events)s::jsonb) AS e (number int, batch int, time timestamptz, project bigint,
        api_key bigint, key uuid, time_assumed boolean, source text, event_id text, type text, subject text, data jsonb,
        is_fed boolean)
    JOIN batch ON batch.number = e.batch
    WHERE NOT EXISTS (
        SELECT FROM event AS known
        WHERE known.organisation_id = batch.organisation AND known.key = e.key
          AND known.receipt_month = ANY({months}) OFFSET 0)
),
inserted AS (
    INSERT INTO {partition} (organisation_id, batch_id, time, project_id, api_key_id, receipt_month, key, time_assumed,
        source, event_id, type, subject, data)
    SELECT organisation, batch_id, time, project, api_key, %(month)s, key, time_assumed,
        source, event_id, type, subject, data
    FROM sent ORDER BY organisation, key
    ON CONFLICT DO NOTHING RETURNING batch_id, key
),
stored AS MATERIALIZED (SELECT sent.* FROM inserted JOIN sent USING (batch_id, key)),
batch_rows AS (
    INSERT INTO ingest_batch (id, organisation_id, event_count, unmatched_count, first_time, last_time, receipt_month,
        received_at, format, service_token_id)
    SELECT batch.id, batch.organisation, s.events, s.unmatched, s.first_time, s.last_time, %(month)s,
        received_at, format, token
    FROM batch JOIN (
        SELECT batch_id AS id, count(*) AS events, count(*) FILTER (WHERE NOT is_fed) AS unmatched,
               min(time) AS first_time, max(time) AS last_time
        FROM stored GROUP BY batch_id) AS s ON s.id = batch.id
)
SELECT number FROM stored"""

_LIVE_TOKEN = LIVE_TOKEN % {"token": "b.token", "received_at": "b.received_at"}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class SmallRequest:
    """New events, as far as anybody knows, of one request."""

    candidates: Sequence[Candidate]
    origin: Origin
    # Earlier months of receipt in which they may be known.
    months: Sequence[date]
    # Otherwise only events of a live token are stored.
    is_token_confirmed: bool


def insert_together(request: SmallRequest) -> list[Candidate]:
    """Store and commit what is new, with a batch row per organisation; returns the candidates that are not stored."""
    return _gathering(request)


def _insert(requests: Sequence[SmallRequest]) -> list[list[Candidate]]:
    month = requests[0].origin.receipt_month
    of_the_month = [request for request in requests if request.origin.receipt_month == month]
    try:
        with transaction.atomic(durable=True) if connection.in_atomic_block else nullcontext():
            stored = _run(of_the_month, month)
    except DatabaseError:
        stored = set()
    numbers = count()
    left = {id(one): [found for found in one.candidates if next(numbers) not in stored] for one in of_the_month}
    return [left.get(id(request), list(request.candidates)) for request in requests]


_gathering = Gathering[SmallRequest, list[Candidate]](_insert)


def _run(requests: Sequence[SmallRequest], month: date) -> set[int]:
    """The numbers of the candidates that were stored, counted over all the requests."""
    batches: dict[tuple[int, int], dict[str, Any]] = {}
    events = list(_events(requests, batches))
    values = {
        "longest_wait": LONGEST_WAIT,
        "batches": _encode(list(batches.values())).decode(),
        "events": _encode(events).decode(),
        "month": month,
    }
    months = months_text(sorted({earlier for request in requests for earlier in request.months}))
    statement = _INSERT.format(partition=partition_name(month), months=months, live_token=_LIVE_TOKEN)
    return {number for (number,) in run_prepared(statement, values).fetchall()}


def _events(
    requests: Sequence[SmallRequest], batches: dict[tuple[int, int], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The events as the statement reads them; notes the batches they are of."""
    numbers = count()
    for place, request in enumerate(requests):
        for candidate in request.candidates:
            draft = candidate.draft
            batch = batches.setdefault((place, candidate.organisation_id), {})
            if not batch:
                batch |= _batch(len(batches), candidate.organisation_id, request)
            yield {
                "number": next(numbers),
                "batch": batch["number"],
                "time": candidate.time,
                "project": candidate.project_id,
                "api_key": candidate.api_key_id,
                "key": candidate.key.hex(),
                "time_assumed": candidate.time_assumed,
                "source": draft.source,
                "event_id": draft.event_id,
                "type": draft.type,
                "subject": draft.subject,
                "data": msgspec.Raw(draft.raw_data),
                "is_fed": bool(candidate.meters),
            }


def _batch(number: int, organisation_id: int, request: SmallRequest) -> dict[str, Any]:
    origin = request.origin
    return {
        "number": number,
        "organisation": organisation_id,
        "received_at": origin.received_at,
        "format": origin.format,
        "token": origin.service_token_id,
        "is_confirmed": request.is_token_confirmed,
    }
