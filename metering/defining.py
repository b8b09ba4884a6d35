"""Meters as operators define and retire them. Every act is in the audit log.

What totals are made of never changes: a meter's key, event type, value field, aggregation and dimensions. An archived
meter keeps its totals and reads nothing that happens later.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest

from accounts import audit
from accounts.audit import Actor
from metering import catalogue
from metering.aggregation.members import DECIMAL_STRING
from metering.models import IngestBatch, Meter

# A preview looks at the events of this many batches, the latest.
PREVIEW_BATCHES = 50

PREVIEW = """
SELECT count(*), count(*) FILTER (WHERE %s = '' OR data ->> %s ~ %s)
FROM event WHERE batch_id = ANY(%s) AND receipt_month = ANY(%s) AND type = %s"""


@dataclass(frozen=True, slots=True)
class MeterPreview:
    """Of the latest events: how many are of the meter's type, and how many of these it can read."""

    of_its_type: int
    readable: int


@transaction.atomic
def define_meter(meter: Meter, *, actor: Actor, request: HttpRequest | None = None) -> Meter:
    """Save a new meter or the words of one that exists."""
    is_new = meter.pk is None
    meter.save()
    _record("meter.defined" if is_new else "meter.reworded", meter, actor, request)
    transaction.on_commit(catalogue.forget)
    return meter


@transaction.atomic
def archive_meter(meter: Meter, *, now: datetime, actor: Actor, request: HttpRequest | None = None) -> bool:
    """Let a meter read nothing from now on; returns whether it was in use."""
    if not Meter.objects.active().filter(pk=meter.pk).update(archived_at=now):
        return False
    _record("meter.archived", meter, actor, request)
    transaction.on_commit(catalogue.forget)
    return True


def preview_meter(meter: Meter) -> MeterPreview:
    """What a meter would have found in the latest events."""
    batches = list(IngestBatch.objects.order_by("-pk").values_list("pk", "receipt_month")[:PREVIEW_BATCHES])
    places: list[Any] = [[pk for pk, _ in batches], sorted({month for _, month in batches})]
    field = meter.value_field
    with connection.cursor() as cursor:
        cursor.execute(PREVIEW, [field, field, DECIMAL_STRING, *places, meter.event_type])
        return MeterPreview(*cursor.fetchone())


def _record(action: str, meter: Meter, actor: Actor, request: HttpRequest | None) -> None:
    details = {"event_type": meter.event_type, "value_field": meter.value_field, "aggregation": meter.aggregation}
    audit.record(
        action,
        organisation=None,
        actor=actor,
        subject_id=meter.key,
        subject_label=meter.name,
        details=details,
        request=request,
    )
