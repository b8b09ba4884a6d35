"""Forgetting holds that ended long ago and counters of windows that ended long ago, in batches; and noted changes.

A hold stays for as long as an event may come that names it; one that is still held stays whatever its age. What is
pruned leaves no hole in `recounting`: windows that reset are compared only from where all holds are kept, and for a
counter that never resets the sum of what was pruned is kept with it, and which events that sum stands for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from accounts.models import Organisation
from metering.admission.counters import ZERO
from metering.admission.settling import Place
from metering.exact import EXACT
from metering.models import AdmissionChange, DroppedMonth, Hold, Measure, PrunedHoldEvent, PrunedHolds
from metering.quota_windows import BEGINNING
from metering.recounting import counted_by_hold

BATCH = 1000
# Beyond the late window: a batch that waited to be folded, a clock that was slow.
MARGIN = timedelta(days=1)
# Far longer than a transaction runs and what was looked up before it is remembered (`metering.admission.memory`).
CHANGES_KEPT = timedelta(days=1)

# In the order in which counters are locked everywhere.
CARRY = """
INSERT INTO quota_window AS kept (organisation_id, quota_id, subject, starts_at, used, held, pruned)
SELECT organisation, quota, subject, start, 0, 0, pruned
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[], %s::numeric[])
  AS p (organisation, quota, subject, start, pruned)
ORDER BY organisation, quota, subject, start
ON CONFLICT (organisation_id, quota_id, subject, starts_at) DO UPDATE SET pruned = kept.pruned + excluded.pruned"""

# A hold that ran for longer than the rest may still be settled; its counters wait for it.
DROP_COUNTERS = """
DELETE FROM quota_window WHERE (organisation_id, quota_id, subject, starts_at) IN (
    SELECT w.organisation_id, w.quota_id, w.subject, w.starts_at FROM quota_window w
    WHERE w.organisation_id = %s AND w.ends_at < %s AND w.held = 0 AND NOT EXISTS (
        SELECT FROM hold h WHERE h.organisation_id = w.organisation_id AND h.created_at < w.ends_at
          AND h.quota_ids @> ARRAY[w.quota_id])
    ORDER BY w.organisation_id, w.quota_id, w.subject, w.starts_at LIMIT %s FOR UPDATE OF w SKIP LOCKED)"""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one call forgot. `is_finished`: nothing older is left."""

    holds: int
    counters: int
    is_finished: bool


def kept_since(now: datetime) -> datetime | None:
    """Holds that ended before this may go; None: they are kept for ever."""
    if not settings.HOLDS_KEPT_DAYS:
        return None
    late = timedelta(days=settings.LATE_WINDOW_DAYS, seconds=settings.FUTURE_TOLERANCE_SECONDS) + MARGIN
    return now - max(timedelta(days=settings.HOLDS_KEPT_DAYS), late)


def prune(now: datetime, *, batches: int = 100) -> Pruned:
    """Forget what the policy no longer keeps, up to so many batches. Call it until it is finished."""
    before = kept_since(now)
    return Pruned(0, 0, is_finished=True) if before is None else prune_before(before, batches=batches)


def prune_before(before: datetime, *, batches: int = 100) -> Pruned:
    """Forget what ended before an instant: organisation by organisation, each batch committed by itself.

    Killed at any point, it has forgotten whole batches.
    """
    PrunedHolds.objects.advance(before)
    if DroppedMonth.objects.exists():  # counters that never reset cannot be recounted any more
        PrunedHoldEvent.objects.all().delete()
    holds = counters = 0
    for organisation_id in Organisation.objects.order_by("pk").values_list("pk", flat=True):
        for count in _in_batches(_prune_holds, organisation_id, before):
            holds, batches = holds + count, batches - 1
            if not batches:
                return Pruned(holds, counters, is_finished=False)
        for count in _in_batches(_drop_counters, organisation_id, before):
            counters, batches = counters + count, batches - 1
            if not batches:
                return Pruned(holds, counters, is_finished=False)
    return Pruned(holds, counters, is_finished=True)


def prune_changes(now: datetime) -> int:
    """Forget changes that nobody can have missed any more; returns how many."""
    return AdmissionChange.objects.filter(changed_at__lt=now - CHANGES_KEPT).delete()[0]


def _in_batches(forget: Callable[[int, datetime], int], organisation_id: int, before: datetime) -> Iterator[int]:
    """The size of each batch that was forgotten, until one is not full."""
    count = BATCH
    while count == BATCH:
        count = forget(organisation_id, before)
        if count:
            yield count


@transaction.atomic
def _prune_holds(organisation_id: int, before: datetime) -> int:
    ended = Hold.objects.filter(organisation_id=organisation_id, created_at__lt=before, ended_at__lt=before)
    holds = list(ended.select_for_update(skip_locked=True).order_by("created_at")[:BATCH])
    if holds:
        lasting = [hold for hold in holds if _counts_for_ever(hold)]
        _carry(lasting)
        if not DroppedMonth.objects.exists():
            _remember_events(lasting)
        Hold.objects.filter(organisation_id=organisation_id, id__in=[hold.id for hold in holds]).delete()
    return len(holds)


def _drop_counters(organisation_id: int, before: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(DROP_COUNTERS, [organisation_id, before, BATCH])
        return int(cursor.rowcount)


def _counts_for_ever(hold: Hold) -> bool:
    kinds = zip(hold.window_starts, hold.measures, strict=True)
    return any(start == BEGINNING and measure != Measure.CONCURRENT for start, measure in kinds)


def _carry(holds: Sequence[Hold]) -> None:
    """Keep with each counter that never resets what these holds brought it."""
    carried: dict[Place, Decimal] = {}
    for hold in holds:
        for place, change in counted_by_hold(hold).items():
            if place[3] == BEGINNING and change.used:
                carried[place] = EXACT.add(carried.get(place, ZERO), change.used)
    if carried:
        places = sorted(carried)
        columns: list[Any] = [list(column) for column in zip(*places, strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(CARRY, [*columns, [carried[place] for place in places]])


def _remember_events(holds: Sequence[Hold]) -> None:
    PrunedHoldEvent.objects.bulk_create(
        PrunedHoldEvent(organisation_id=hold.organisation_id, event_key=hold.event_key, quota_ids=hold.quota_ids)
        for hold in holds
        if hold.event_key is not None
    )
