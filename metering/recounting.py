"""Counters made anew: for a quota that is new, to compare what is stored with what events and holds say, to mend it.

A counter is: what the settled holds that counted on it used, and what every other event of its window used; and what
the holds in flight hold. Both come from rows that are never changed, so a difference is a fault and is reported. Of
holds that were pruned, `metering.pruning` leaves behind what a counter that never resets needs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Min, Q
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from metering.admission.counters import ZERO, used_of
from metering.admission.counting import CountingRules, Used, counted
from metering.admission.settling import Change, Place, change_counters
from metering.aggregation.locks import rebuild_alone
from metering.aggregation.members import Sql
from metering.aggregation.minutes import used_by_minute
from metering.aggregation.rules import event_types, rules_between, summed
from metering.aggregation.statement import CORRECTIONS
from metering.exact import EXACT
from metering.models import (
    DroppedMonth,
    Hold,
    HoldState,
    IngestBatch,
    Measure,
    PrunedHoldEvent,
    PrunedHolds,
    Quota,
    QuotaWindow,
    Window,
)
from metering.quota_windows import BEGINNING

FOLDED_EVENTS = """
SELECT e.organisation_id, e.type, e.project_id, e.api_key_id, e.time, e.key, e.data
FROM event e JOIN ingest_batch b
  ON b.organisation_id = e.organisation_id AND b.id = e.batch_id AND b.receipt_month = e.receipt_month
WHERE b.organisation_id = %s AND b.folded_at IS NOT NULL AND b.first_time < %s AND b.last_time >= %s
  AND e.time >= %s AND e.time < %s AND e.type = ANY(%s)"""
FOLDED_CORRECTIONS = """
c.organisation_id = %s AND c.time >= %s AND c.time < %s AND c.type = ANY(%s) AND EXISTS (
    SELECT FROM ingest_batch b
    WHERE b.organisation_id = c.organisation_id AND b.id = c.batch_id AND b.folded_at IS NOT NULL)"""
COMPARED = timedelta(days=2)
READ_AT_ONCE = timedelta(days=1)
# Differences that an audit entry spells out.
MOST_NAMED = 50
# Keeps this lock apart from any other in the database; "rec" in ASCII.
RECOMPUTING = 0x726563
# How far past now an event's time may lie.
AHEAD = timedelta(hours=1)


class AlreadyRecomputing(DomainError):
    code = "already_recomputing"
    status = 409
    sentence = "Another process is recomputing the counters of this organisation at this moment."


@dataclass(frozen=True, slots=True)
class CounterDifference:
    """One counter whose stored figures are not what events and holds say."""

    organisation: str
    quota: str
    subject: str
    starts_at: datetime
    stored_used: Decimal
    stored_held: Decimal
    used: Decimal
    held: Decimal
    # Null: the window never ends.
    ends_at: datetime | None

    @property
    def change(self) -> Change:
        """What mends it."""
        used, held = EXACT.subtract(self.used, self.stored_used), EXACT.subtract(self.held, self.stored_held)
        return Change(used, held, self.ends_at)

    @property
    def facts(self) -> dict[str, Any]:
        """For the audit log: what was, and what is."""
        return {
            "quota": self.quota,
            "subject": self.subject,
            "starts_at": self.starts_at.isoformat(),
            "used": [str(self.stored_used), str(self.used)],
            "held": [str(self.stored_held), str(self.held)],
        }


def recount(quota: Quota, now: datetime) -> None:
    """Let a new quota's running window begin with what it has seen so far. Folding waits meanwhile, so that every event
    is counted once: here, or by the fold that finds the quota in force."""
    with transaction.atomic(), connection.cursor() as cursor:
        rebuild_alone(cursor, quota.organisation_id)
        rules = CountingRules.of(quota.organisation_id, [quota])
        start = rules.window_of(quota, now).start
        used = _used(quota.organisation_id, start, now + AHEAD)
        changes = counted(rules, used, {})
        change_counters({place: change for place, change in changes.items() if place[3] >= start})


def compare_counters(
    organisation: Organisation, *, now: datetime, since: datetime | None = None
) -> list[CounterDifference]:
    """Counters of windows that began `since`, and of those that never end, against events and holds. Without `since`,
    as far back as the longest window that runs, and two days at least. What began before its limit was set, or before
    the events or holds that are kept, is left out; of counters that never end, once months of events were dropped,
    only what is held is compared.
    """
    return list(_differences(organisation, now, since).values())


def recompute_counters(
    organisation: Organisation,
    *,
    now: datetime,
    since: datetime | None = None,
    actor: Actor,
    request: HttpRequest | None = None,
) -> list[CounterDifference]:
    """Make counters what events and holds say, as far as `compare_counters` looks; answers what was different.

    Calls go on meanwhile. What is wrong with a counter stays the same whatever is admitted, settled or folded, since
    each of these changes the counter and what it is compared with by the same, at once. So the difference of one
    instant is added afterwards, rather than the counter set. Only one process at a time may do so. Raises
    AlreadyRecomputing. Must not run in a transaction that has seen other data before.
    """
    with _alone(organisation):
        wrong = _differences(organisation, now, since)
        if wrong:
            with transaction.atomic():
                change_counters({place: found.change for place, found in wrong.items()})
                details = {
                    "counters": len(wrong),
                    "first": [found.facts for found in list(wrong.values())[:MOST_NAMED]],
                }
                record("counters.recomputed", organisation=organisation, actor=actor, details=details, request=request)
    return list(wrong.values())


def _differences(organisation: Organisation, now: datetime, since: datetime | None) -> dict[Place, CounterDifference]:
    """In the order of the counters' keys."""
    with transaction.atomic():
        _see_one_instant()
        kept_from, holds_from = DroppedMonth.objects.events_kept_from(), PrunedHolds.objects.holds_kept_from()
        quotas = {quota.pk: quota for quota in Quota.objects.active().filter(organisation=organisation)}
        stored = {
            (organisation.pk, row.quota_id, row.subject, row.starts_at): row
            for row in QuotaWindow.objects.filter(organisation=organisation, quota_id__in=quotas)
        }
        running = [row.starts_at for row in stored.values() if row.ends_at and row.ends_at > now]
        since = since or min(now - COMPARED, *running, now)
        since, reaches_back = max(filter(None, (since, kept_from, holds_from))), kept_from is None
        expected = _expected(organisation.pk, since, now, reaches_back)
    for place, row in stored.items():
        if place[3] == BEGINNING:
            expected[place].used = EXACT.add(expected[place].used, row.pruned) if reaches_back else row.used
    places = _comparable({*stored, *expected}, organisation, list(quotas.values()), since)
    found = {
        place: _difference(organisation, quotas[place[1]], place, stored.get(place), expected[place])
        for place in places
    }
    return {place: one for place, one in found.items() if one is not None}


def _comparable(
    places: set[Place], organisation: Organisation, quotas: Sequence[Quota], since: datetime
) -> list[Place]:
    """The counters that can be compared, in the order of their keys. `recount` begins with the window that ran when a
    limit was set: of those before it, only what came late was ever counted."""
    rules = CountingRules.without_prices(organisation, quotas)
    first = {quota.pk: rules.window_of(quota, quota.created_at).start for quota in quotas}
    return sorted(
        place
        for place in places
        if place[1] in first and (place[3] >= max(since, first[place[1]]) or place[3] == BEGINNING)
    )


def counted_by_hold(hold: Hold) -> dict[Place, Change]:
    """What a hold counts for on its counters, as it stands."""
    prices = {meter: Decimal(price) for meter, price in hold.prices.items()}
    usage = {meter: Decimal(units) for meter, units in (hold.usage or {}).items()}
    is_held, is_settled = hold.state == HoldState.HELD, hold.state == HoldState.SETTLED
    parts = zip(hold.quota_ids, hold.subjects, hold.window_starts, hold.measures, hold.amounts, strict=True)
    return {
        (hold.organisation_id, quota, subject, start): Change(
            used_of(kind, usage, prices) if is_settled else ZERO, amount if is_held else ZERO
        )
        for quota, subject, start, kind, amount in parts
    }


def _see_one_instant() -> None:
    """All that follows in this transaction sees events, holds and counters as they are now, while calls go on."""
    if not connection.savepoint_ids:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _expected(organisation_id: int, since: datetime, now: datetime, reaches_back: bool) -> dict[Place, Change]:
    rules = CountingRules.of(organisation_id)
    # A limit of running calls has no window either, and counts nothing that was used.
    is_lasting = reaches_back and any(
        quota.window == Window.NONE and quota.measure != Measure.CONCURRENT for quota in rules.quotas
    )
    holds = Hold.objects.filter(organisation_id=organisation_id)
    if not is_lasting:  # an older hold has nothing to say of newer windows, unless it still runs or has just ended
        recent = Q(created_at__gte=since) | Q(ended_at__gte=since - AHEAD) | Q(ended_at=None)
        holds = holds.filter(recent)
    bound: dict[UUID, list[int]] = {
        key: quota_ids for key, quota_ids in holds.values_list("event_key", "quota_ids").iterator() if key is not None
    }
    if is_lasting:
        pruned = PrunedHoldEvent.objects.filter(organisation_id=organisation_id)
        bound |= dict(pruned.values_list("event_key", "quota_ids").iterator())
    expected = counted(rules, _used(organisation_id, BEGINNING if is_lasting else since, now + AHEAD), bound)
    for hold in holds.iterator(chunk_size=1000):
        for place, change in counted_by_hold(hold).items():
            expected[place].used = EXACT.add(expected[place].used, change.used)
            expected[place].held = EXACT.add(expected[place].held, change.held)
    return expected


def _used(organisation_id: int, start: datetime, end: datetime) -> Iterator[Used]:
    """What folded events used, and what folded corrections took back or counted instead: as folding saw both.

    Read a day at a time, so that what is in memory does not grow with the length of a window.
    """
    batches = IngestBatch.objects.filter(organisation_id=organisation_id)
    start = max(start, batches.aggregate(first=Min("first_time"))["first"] or end)
    while start < end:
        until = min(start + READ_AT_ONCE, end)
        yield from _used_between(organisation_id, start, until)
        start = until


def _used_between(organisation_id: int, start: datetime, end: datetime) -> list[Used]:
    rules = summed(rules_between(start, end))
    if not rules:
        return []
    types = event_types(rules)
    events = Sql(FOLDED_EVENTS, (organisation_id, end, start, start, end, types))
    corrections = Sql(CORRECTIONS.format(condition=FOLDED_CORRECTIONS), (organisation_id, start, end, types))
    with connection.cursor() as cursor:
        return used_by_minute(cursor, events, rules, corrections=corrections)


def _difference(
    organisation: Organisation, quota: Quota, place: Place, stored: QuotaWindow | None, expected: Change
) -> CounterDifference | None:
    used, held = (stored.used, stored.held) if stored else (ZERO, ZERO)
    if (used, held) == (expected.used, expected.held):
        return None
    ends_at = stored.ends_at if stored else CountingRules.of(organisation.pk, [quota]).window_of(quota, place[3]).end
    return CounterDifference(
        organisation.slug, quota.public_id, place[2], place[3], used, held, expected.used, expected.held, ends_at
    )


@contextmanager
def _alone(organisation: Organisation) -> Iterator[None]:
    """One process at a time, across transactions: a difference must not be added twice."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [RECOMPUTING, organisation.pk])
        if not cursor.fetchone()[0]:
            raise AlreadyRecomputing
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [RECOMPUTING, organisation.pk])
