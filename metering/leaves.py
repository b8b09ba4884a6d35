"""Reading what seals are made of: the events of a day of receipt in the order of their keys, as rows and as leaves.

Decides nothing and writes nothing; sealing, checking, proving and exporting all read here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from metering.canonical import event_leaf
from metering.merkle import leaf_hash
from metering.partitions import month_of

# Neighbouring leaves that share a tile; a power of two, so that tiles are whole subtrees.
TILE_LEAVES = 128
KEY_HINT_BYTES = HASH_HINT_BYTES = 4
HINT_BYTES = KEY_HINT_BYTES + HASH_HINT_BYTES

_EVENTS = """
SELECT e.key, e.source, e.event_id, e.type, e.subject, e.time, e.time_assumed, e.data::text, b.received_at
FROM ingest_batch b
JOIN event e ON e.organisation_id = b.organisation_id AND e.receipt_month = b.receipt_month AND e.batch_id = b.id
WHERE b.organisation_id = %s AND b.received_at >= %s AND b.received_at < %s
  AND e.organisation_id = %s AND e.receipt_month = %s {further}
ORDER BY e.key"""
_ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Leaf:
    """An event in its place in the tree."""

    key: UUID
    source: str
    event_id: str
    content: bytes
    hash: bytes

    @property
    def hint(self) -> bytes:
        return self.key.bytes[-KEY_HINT_BYTES:] + self.hash[:HASH_HINT_BYTES]


class StoredEvent(NamedTuple):
    """An event as the table holds it, with the receipt of its batch."""

    key: UUID
    source: str
    event_id: str
    type: str
    subject: str
    time: datetime
    time_assumed: bool
    # JSON
    data: str
    received_at: datetime


def bounds_of(day: date) -> tuple[datetime, datetime]:
    """[start, end) of a day in UTC."""
    start = datetime.combine(day, time(), UTC)
    return start, start + timedelta(days=1)


def stream_events(organisation_id: int, day: date) -> Iterator[StoredEvent]:
    """The events of a day in the order of leaves, a few thousand in memory at a time. Needs a transaction."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(_EVENTS.format(further=""), _of_day(organisation_id, day))
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield from map(StoredEvent._make, rows)


def stream_leaves(organisation_id: int, day: date) -> Iterator[Leaf]:
    """The leaves of a day in their order, likewise."""
    return map(_leaf, stream_events(organisation_id, day))


def leaves_between(organisation_id: int, day: date, first: UUID, following: UUID | None) -> list[Leaf]:
    """The leaves of a day from one key up to another, None for the end."""
    further = "AND e.key >= %s" + ("" if following is None else " AND e.key < %s")
    keys = [first] if following is None else [first, following]
    with connection.cursor() as cursor:
        cursor.execute(_EVENTS.format(further=further), [*_of_day(organisation_id, day), *keys])
        return [_leaf(StoredEvent._make(row)) for row in cursor.fetchall()]


def _of_day(organisation_id: int, day: date) -> list[Any]:
    start, end = bounds_of(day)
    return [organisation_id, start, end, organisation_id, month_of(start)]


def _leaf(event: StoredEvent) -> Leaf:
    content = event_leaf(
        event.source, event.event_id, event.type, event.subject, event.time, event.time_assumed, event.data
    )
    return Leaf(event.key, event.source, event.event_id, content, leaf_hash(content))
