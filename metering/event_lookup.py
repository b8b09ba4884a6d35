"""What became of one event: its verdict, what it feeds and where, what corrected it, what was refused under its name.

Reads only. Knows no prices: billing turns meter, model and quarter hour into lines of bills.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
from django.db import connection
from django.db.models import Q

from accounts.models import ApiKey, Organisation, Project
from metering import quarter_hours
from metering.correcting import Original, find_original
from metering.exact_json import decode_object
from metering.identity import event_key
from metering.members import (
    conditions_of,
    lets_through,
    read_member,
    readable_number,
    scalar_text,
    tier_of,
    tiers_of,
)
from metering.models import Aggregation, Correction, Event, IngestBatch, Meter, MeterRevision, RejectedEvent
from metering.models.events import RejectionReason

# Refusals listed with an event; one name may have conflicted with any number of bodies.
MOST_REFUSALS = 20
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class Named:
    """An event by what its sender calls it."""

    source: str
    id: str
    type: str


@dataclass(frozen=True, slots=True)
class Feed:
    """What an event adds to a meter, and the quarter hour of UTC in which that counts."""

    meter: str
    model: str
    value: Decimal
    interval_start: datetime
    interval_end: datetime
    # The dimensions of its series besides the model.
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An accepted event."""

    type: str
    subject: str
    # Of the event itself; a correction counts at the time of what it corrects.
    time: datetime
    time_assumed: bool
    received_at: datetime
    format: str
    batch: int
    # None: not in the totals yet, which takes seconds.
    folded_at: datetime | None
    # Public ids; None: the event named the organisation only.
    project: str | None
    api_key: str | None
    data: dict[str, Any]
    # Empty: nothing reads it, or nothing of it counts any more.
    feeds: tuple[Feed, ...]
    corrects: Named | None
    corrected_by: Named | None


@dataclass(frozen=True, slots=True)
class RefusalFact:
    """Something that was sent under the event's name and not accepted."""

    verdict: Literal["conflict", "rejected"]
    reason: str
    detail: str
    state: str
    settlement: str
    seen_count: int
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True, slots=True)
class EventFacts:
    """All there is under a source and id. Rejected: nothing was accepted so far."""

    source: str
    id: str
    verdict: Literal["accepted", "rejected"]
    acceptance: Acceptance | None
    refusals: tuple[RefusalFact, ...]


def look_up_event(
    organisation: Organisation, *, source: str, event_id: str, with_unattributed: bool = False
) -> EventFacts | None:
    """What an organisation's event of this source and id came to; None: nothing of that name ever arrived.

    `with_unattributed` includes refusals whose organisation could not be told; they may be anybody's.
    """
    acceptance = _acceptance(organisation, source, event_id)
    refusals = _refusals(organisation, source, event_id, with_unattributed)
    if acceptance is None and not refusals:
        return None
    return EventFacts(source, event_id, "accepted" if acceptance else "rejected", acceptance, refusals)


def feeds_of(
    organisation: Organisation, *, source: str, event_id: str, data: Mapping[str, Any] | None = None
) -> tuple[Feed, ...]:
    """What an event feeds, or would feed with this data in the place of its own. Writes nothing."""
    with connection.cursor() as cursor:
        found = find_original(cursor, organisation.pk, source, event_id)
    if found is None:
        return ()
    return _feeds(found if data is None else replace(found, counting=_encode(data).decode()))


def known_names(
    organisation: Organisation, names: Sequence[tuple[str, str]], *, with_unattributed: bool = False
) -> list[tuple[str, str]]:
    """Those of some names, source and id, under which anything of the organisation ever arrived."""
    keys = [UUID(bytes=event_key(*name)) for name in names]
    accepted = Event.objects.filter(organisation=organisation, key__in=keys).values_list("source", "event_id")
    ids = {event_id for _, event_id in names}
    refused = RejectedEvent.objects.filter(_whose(organisation, with_unattributed), event_id__in=ids)
    known = {*accepted, *refused.values_list("source", "event_id")}
    return [name for name in dict.fromkeys(names) if name in known]


def _whose(organisation: Organisation, with_unattributed: bool) -> Q:
    own = Q(organisation=organisation)
    return own | Q(organisation=None) if with_unattributed else own


def _acceptance(organisation: Organisation, source: str, event_id: str) -> Acceptance | None:
    with connection.cursor() as cursor:
        found = find_original(cursor, organisation.pk, source, event_id)
    if found is None:
        return None
    place = {"organisation": organisation, "key": found.key, "receipt_month": found.receipt_month}
    event = Event.objects.defer("data").get(**place)
    batch = IngestBatch.objects.get(organisation=organisation, pk=event.batch_id)
    corrected = Correction.objects.filter(**place).values_list("original_key", "original_month").first()
    return Acceptance(
        type=event.type,
        subject=event.subject,
        time=event.time,
        time_assumed=event.time_assumed,
        received_at=batch.received_at,
        format=batch.format,
        batch=batch.pk,
        folded_at=batch.folded_at,
        project=_public_id(Project, organisation, found.project_id),
        api_key=_public_id(ApiKey, organisation, found.api_key_id),
        data=_data_of(event),
        feeds=_feeds(found),
        corrects=_named(organisation, *corrected) if corrected else None,
        corrected_by=_corrected_by(organisation, found),
    )


def _feeds(found: Original) -> tuple[Feed, ...]:
    if found.corrected_by is not None or found.counting is None:
        return ()
    data = decode_object(found.counting)
    meters = Meter.objects.filter(event_type=found.type).prefetch_related("revisions").order_by("position", "key")
    return tuple(feed for meter in meters for feed in _feed(meter, data, found.time))


def _feed(meter: Meter, data: dict[str, Any], at: datetime) -> Iterator[Feed]:
    value, start = _value(meter, data), quarter_hours.floor(at)
    for one, since, until in meter.definitions():
        in_force = since <= at and (until is None or at < until)
        if value is not None and in_force and lets_through(conditions_of(one.filters), data):
            labels = _labels(one, data)
            yield Feed(meter.key, labels.pop("model", ""), value, start, start + quarter_hours.QUARTER_HOUR, labels)


def _value(meter: Meter, data: dict[str, Any]) -> Decimal | None:
    value = read_member(data, meter.value_field) if meter.value_field else None
    if meter.aggregation == Aggregation.COUNT:
        return Decimal(1)
    if meter.aggregation == Aggregation.UNIQUE_COUNT:
        return None if scalar_text(value) is None else Decimal(1)
    return readable_number(value)


def _labels(one: Meter | MeterRevision, data: dict[str, Any]) -> dict[str, str]:
    """The dimensions of the series that the event counts in; those that it has."""
    tiers = {name: tier_of(tier, data) for name, tier in tiers_of(one.tiers).items()}
    found = {name: read_member(data, name) for name in one.dimensions} | tiers
    return {name: str(value) for name, value in found.items() if value is not None}


def _data_of(event: Event) -> dict[str, Any]:
    """With exact numbers, which the model's field would make floats of."""
    statement = "SELECT data::text FROM event WHERE organisation_id = %s AND key = %s AND receipt_month = %s"
    with connection.cursor() as cursor:
        cursor.execute(statement, [event.organisation_id, event.key, event.receipt_month])
        return decode_object(cursor.fetchone()[0])


def _named(organisation: Organisation, key: Any, month: Any) -> Named | None:
    found = Event.objects.filter(organisation=organisation, key=key, receipt_month=month)
    row = found.values_list("source", "event_id", "type").first()
    return None if row is None else Named(*row)


def _corrected_by(organisation: Organisation, found: Original) -> Named | None:
    later = Correction.objects.filter(
        organisation=organisation, original_key=found.key, original_month=found.receipt_month
    )
    row = later.values_list("key", "receipt_month").first()
    return None if row is None else _named(organisation, *row)


def _public_id(model: Any, organisation: Organisation, pk: int | None) -> str | None:
    return model.objects.for_organisation(organisation).filter(pk=pk).values_list("public_id", flat=True).first()


def _refusals(
    organisation: Organisation, source: str, event_id: str, with_unattributed: bool
) -> tuple[RefusalFact, ...]:
    whose = _whose(organisation, with_unattributed)
    rows = RejectedEvent.objects.filter(whose, source=source, event_id=event_id).exclude(event_id="")
    return tuple(
        RefusalFact(
            verdict="conflict" if row.reason == RejectionReason.CONFLICT else "rejected",
            reason=row.reason,
            detail=row.detail,
            state=row.state,
            settlement=row.settlement,
            seen_count=row.seen_count,
            first_seen_at=row.first_seen_at,
            last_seen_at=row.last_seen_at,
        )
        for row in rows.order_by("-last_seen_at", "-pk")[:MOST_REFUSALS]
    )
