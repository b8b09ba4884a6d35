"""Accepted events that feed no meter, by type and day of receipt: of types that nothing reads, or without anything
that the meters of their type read. Looked for in the latest batches that intake counted such events in.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any, NamedTuple

from django.db import connection

from accounts.models import Organisation
from metering.catalogue import Rules, rules_by_event_type
from metering.correcting import CORRECTING_TYPES
from metering.exact_json import decode_object
from metering.judging import Unacceptable, fed_meters
from metering.models import IngestBatch
from metering.reports.work_lists import DAYS, last_days, midnight

# Batches that are looked through, the latest; and events of read types in them that are judged again.
MOST_BATCHES = 1_000
MOST_EVENTS = 20_000
MOST_TYPES = 200

OF_UNREAD_TYPES = """
SELECT o.public_id, o.slug, e.type, e.batch_id, count(*), max(e.time),
       (array_agg(e.source))[1], (array_agg(e.event_id))[1]
FROM event e JOIN accounts_organisation o ON o.id = e.organisation_id
WHERE e.batch_id = ANY(%s) AND e.receipt_month = ANY(%s) AND NOT e.type = ANY(%s)
GROUP BY o.public_id, o.slug, e.type, e.batch_id"""
OF_READ_TYPES = """
SELECT o.public_id, o.slug, e.type, e.batch_id, e.time, e.source, e.event_id, e.data::text
FROM event e JOIN accounts_organisation o ON o.id = e.organisation_id
WHERE e.batch_id = ANY(%s) AND e.receipt_month = ANY(%s) AND e.type = ANY(%s)
ORDER BY e.batch_id DESC LIMIT %s"""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Accepted events of one type and organisation that feed no meter."""

    organisation_id: str
    organisation: str
    type: str
    # Whether meters read this type, and found nothing in these events; otherwise none reads it.
    is_read: bool
    count: int
    # On each of the days of receipt (UTC) asked for.
    counts: tuple[int, ...]
    last_time: datetime
    # Source and id of one of them.
    example: tuple[str, str]


class _Found(NamedTuple):
    """Some events of one batch."""

    organisation_id: str
    organisation: str
    type: str
    batch_id: int
    events: int
    last_time: datetime
    source: str
    event_id: str


class _Batch(NamedTuple):
    pk: int
    received_at: datetime
    receipt_month: date
    unmatched_count: int


def unmatched_types(
    now: datetime, *, days: int = DAYS, organisation: Organisation | None = None
) -> tuple[tuple[date, ...], list[Unmatched]]:
    """The last days, oldest first, and the types of events received on them that feed no meter, the most frequent
    first."""
    shown = last_days(now, days)
    latest = IngestBatch.objects.filter(unmatched_count__gt=0, received_at__gte=midnight(shown[0])).order_by("-pk")
    latest = latest.filter(organisation=organisation) if organisation else latest
    rows = latest.values_list("pk", "received_at", "receipt_month", "unmatched_count")[:MOST_BATCHES]
    batches = {pk: _Batch(pk, received_at, month, count) for pk, received_at, month, count in rows}
    rules = rules_by_event_type()
    found = _of_unread_types(batches.values(), rules)
    known: dict[int, int] = {}
    for one in found:
        known[one.batch_id] = known.get(one.batch_id, 0) + one.events
    others = [batch for batch in batches.values() if batch.unmatched_count > known.get(batch.pk, 0)]
    found += _of_read_types(others, rules)
    by_type = groupby(sorted(found), key=lambda one: one[:3])
    listed = [_unmatched(list(of_type), shown, batches, rules) for _, of_type in by_type]
    return shown, sorted(listed, key=lambda one: -one.count)[:MOST_TYPES]


def _of_unread_types(batches: Iterable[_Batch], rules: dict[str, Rules]) -> list[_Found]:
    with connection.cursor() as cursor:
        cursor.execute(OF_UNREAD_TYPES, [*_places(batches), sorted({*rules, *CORRECTING_TYPES})])
        return [_Found(*row) for row in cursor.fetchall()]


def _of_read_types(batches: list[_Batch], rules: dict[str, Rules]) -> Iterator[_Found]:
    if not batches:
        return
    with connection.cursor() as cursor:
        cursor.execute(OF_READ_TYPES, [*_places(batches), sorted(rules), MOST_EVENTS])
        for public_id, slug, event_type, batch_id, time, source, event_id, data in cursor.fetchall():
            if not _feeds_any(data, time, rules[event_type]):
                yield _Found(public_id, slug, event_type, batch_id, 1, time, source, event_id)


def _places(batches: Iterable[_Batch]) -> tuple[list[int], list[date]]:
    batches = list(batches)
    return [batch.pk for batch in batches], sorted({batch.receipt_month for batch in batches})


def _feeds_any(data: str, time: datetime, rules: Rules) -> bool:
    """A value that a meter defined later cannot read feeds nothing."""
    for rule in rules:
        try:
            if fed_meters(decode_object(data), time, (rule,)):
                return True
        except Unacceptable:
            continue
    return False


def _unmatched(
    found: list[_Found], shown: tuple[date, ...], batches: dict[int, _Batch], rules: dict[str, Rules]
) -> Unmatched:
    """One type of one organisation, from what was found batch by batch."""
    per_day: dict[date, int] = {}
    for one in found:
        day = batches[one.batch_id].received_at.astimezone(UTC).date()
        per_day[day] = per_day.get(day, 0) + one.events
    newest: Any = max(found, key=lambda one: one.last_time)
    return Unmatched(
        newest.organisation_id,
        newest.organisation,
        newest.type,
        newest.type in rules,
        sum(per_day.values()),
        tuple(per_day.get(day, 0) for day in shown),
        newest.last_time,
        (newest.source, newest.event_id),
    )
