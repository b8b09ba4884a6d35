"""Counters made anew: for a quota that is new, and to compare what is stored with what events and holds say.

A counter is: what the settled holds that counted on it used, and what every other event of its window used; and what
the holds in flight hold. Both come from rows that are never changed, so a difference is a fault and is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction

from accounts.models import Organisation
from metering.admission.counters import ZERO, used_of
from metering.admission.counting import CountingRules, Used, counted
from metering.admission.settling import Change, Place, change_counters
from metering.aggregation.counting import counting
from metering.aggregation.locks import rebuild_alone
from metering.aggregation.minutes import used_by_minute
from metering.aggregation.rules import event_types, rules_between, summed
from metering.exact import EXACT
from metering.models import Hold, HoldState, Quota, QuotaWindow
from metering.quota_windows import BEGINNING

COMPARED = timedelta(days=2)
# How far past now an event's time may lie.
AHEAD = timedelta(hours=1)


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
    """Counters of windows that began `since` (two days ago unless given), and of those that never end, against events
    and holds. Windows that began before a quota was set are left out: it counts from then on what was folded by then.
    """
    since = since or now - COMPARED
    with transaction.atomic(), connection.cursor() as cursor:
        rebuild_alone(cursor, organisation.pk)
        quotas = {quota.pk: quota for quota in Quota.objects.active().filter(organisation=organisation)}
        stored = {
            (organisation.pk, row.quota_id, row.subject, row.starts_at): row
            for row in QuotaWindow.objects.filter(organisation=organisation, quota_id__in=quotas)
        }
        expected = _expected(organisation.pk, since, now)
    places = {place for place in {*stored, *expected} if place[1] in quotas and _is_compared(place, since)}
    return [
        found
        for place in sorted(places)
        if (found := _difference(organisation, quotas[place[1]], place, stored.get(place), expected[place]))
    ]


def _is_compared(place: Place, since: datetime) -> bool:
    return place[3] >= since or place[3] == BEGINNING


def _expected(organisation_id: int, since: datetime, now: datetime) -> dict[Place, Change]:
    rules = CountingRules.of(organisation_id)
    lasting = any(quota.window == "none" for quota in rules.quotas)
    holds = list(Hold.objects.filter(organisation_id=organisation_id))
    bound = {hold.event_key: hold.quota_ids for hold in holds if hold.event_key is not None}
    start = BEGINNING if lasting else since
    expected = counted(rules, _used(organisation_id, start, now + AHEAD), bound)
    for hold in holds:
        prices = {meter: Decimal(price) for meter, price in hold.prices.items()}
        usage = {meter: Decimal(units) for meter, units in (hold.usage or {}).items()}
        for quota_id, subject, begin, kind, amount in zip(
            hold.quota_ids, hold.subjects, hold.window_starts, hold.measures, hold.amounts, strict=True
        ):
            change = expected[organisation_id, quota_id, subject, begin]
            if hold.state == HoldState.HELD:
                change.held = EXACT.add(change.held, amount)
            elif hold.state == HoldState.SETTLED:
                change.used = EXACT.add(change.used, used_of(kind, usage, prices))
    return expected


def _used(organisation_id: int, start: datetime, end: datetime) -> Sequence[Used]:
    """What folded events used, corrections taken into account."""
    rules = summed(rules_between(start, end))
    if not rules:
        return []
    events = counting(organisation_id, start, end, event_types(rules))
    with connection.cursor() as cursor:
        return used_by_minute(cursor, events, rules)


def _difference(
    organisation: Organisation, quota: Quota, place: Place, stored: QuotaWindow | None, expected: Change
) -> CounterDifference | None:
    used, held = (stored.used, stored.held) if stored else (ZERO, ZERO)
    if (used, held) == (expected.used, expected.held):
        return None
    return CounterDifference(
        organisation.slug, quota.public_id, place[2], place[3], used, held, expected.used, expected.held
    )
