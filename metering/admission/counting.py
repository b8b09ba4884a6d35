"""Counters follow the events that are folded: events settle the holds they name, and whatever was not held counts too.

Called by folding, last in its transaction, with what the claimed events used. An event names its hold by
`data.admission`, or by the hold's call id as `data.call_id`. The first event that does settles it, on the counters and
in the windows of the hold; any other use counts in the window of its own time, on every quota in force that it fits.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Q

from accounts.key_restrictions import allows_model
from accounts.models import Organisation
from metering.admission.counters import spend_of
from metering.admission.settling import Change, Ending, Place, end
from metering.exact import EXACT
from metering.models.quotas import BillingWindow, Hold, HoldState, Measure, PriceEstimate, Quota, QuotaScope, Window
from metering.quota_windows import Span, window_at

# Event -> the quotas that the hold of its call counts on.
type Bound = Mapping[UUID, Collection[int]]

# The meter that counts calls.
REQUESTS = "requests"

COUNTING_ORGANISATIONS = """
SELECT id FROM unnest(%s::bigint[]) AS one (id)
WHERE EXISTS (SELECT FROM metering_quota q WHERE q.organisation_id = one.id AND q.archived_at IS NULL)
   OR EXISTS (SELECT FROM hold h WHERE h.organisation_id = one.id)"""


@dataclass(frozen=True, slots=True)
class Used:
    """What one meter read in one minute: of one event where that names a call, else of all that share the rest."""

    organisation_id: int
    meter_key: str
    project_id: int
    api_key_id: int | None
    model: str
    end_user: str
    minute: datetime
    # May be negative: what a correction takes back.
    units: Decimal
    event_key: UUID | None = None
    admission: str = ""
    call_id: str = ""


def organisations_that_count(cursor: Any, organisation_ids: Collection[int]) -> list[int]:
    """Those that have quotas or have had calls admitted: only their events have to be looked at again."""
    cursor.execute(COUNTING_ORGANISATIONS, [sorted(organisation_ids)])
    return [row[0] for row in cursor.fetchall()]


def follow(used: Sequence[Used], now: datetime) -> None:
    """Settle the holds that events name and count everything else; inside the transaction that folds the events."""
    if not used:
        return
    endings, bound = _settled(used)
    end(endings, now, more=_unheld(used, bound))


def _unheld(used: Iterable[Used], bound: Bound) -> dict[Place, Change]:
    by_organisation: dict[int, list[Used]] = defaultdict(list)
    for one in used:
        by_organisation[one.organisation_id].append(one)
    changes: dict[Place, Change] = {}
    for organisation_id, rows in by_organisation.items():
        changes |= counted(CountingRules.of(organisation_id), rows, bound)
    return changes


def counted(rules: "CountingRules", used: Iterable[Used], bound: Bound) -> dict[Place, Change]:
    """What use adds to an organisation's counters by its own time, besides those on which its hold counts already."""
    changes: dict[Place, Change] = defaultdict(Change)
    for one in used:
        held_on = bound.get(one.event_key, ()) if one.event_key else ()
        for place, ends_at, amount in rules.counted(one, besides=held_on):
            changes[place].used = EXACT.add(changes[place].used, amount)
            changes[place].ends_at = ends_at
    return changes


def _settled(used: Sequence[Used]) -> tuple[list[Ending], dict[UUID, Collection[int]]]:
    """The holds that these events end, and for every event that belongs to a hold the quotas that one counts on."""
    calls: dict[UUID, list[Used]] = defaultdict(list)
    for one in used:
        if one.event_key is not None:
            calls[one.event_key].append(one)
    if not calls:
        return [], {}
    holds = _holds_named(calls.values())
    endings: list[Ending] = []
    bound: dict[UUID, Collection[int]] = {}
    for event_key in sorted(calls, key=str):
        hold = _hold_of(calls[event_key][0], holds)
        if hold is None or hold.event_key is not None:
            continue
        hold.event_key = event_key
        bound[event_key] = hold.quota_ids
        usage = {one.meter_key: one.units for one in calls[event_key]}
        endings.append(Ending(hold, HoldState.SETTLED, None if hold.state == HoldState.SETTLED else usage, event_key))
    return endings, bound


def _holds_named(calls: Iterable[Sequence[Used]]) -> dict[tuple[int, str], Hold]:
    """Locked, by organisation and id and by organisation and call id."""
    named = Q()
    ids: dict[int, set[str]] = defaultdict(set)
    call_ids: dict[int, set[str]] = defaultdict(set)
    for rows in calls:
        ids[rows[0].organisation_id].add(rows[0].admission)
        call_ids[rows[0].organisation_id].add(rows[0].call_id)
    for organisation_id, some in ids.items():
        named |= Q(organisation_id=organisation_id, id__in=some - {""})
        named |= Q(organisation_id=organisation_id, call_id__in=call_ids[organisation_id] - {""})
    found: dict[tuple[int, str], Hold] = {}
    for hold in Hold.objects.select_for_update().filter(named).order_by("organisation_id", "id"):
        found[hold.organisation_id, hold.id] = hold
        found[hold.organisation_id, f"call:{hold.call_id}"] = hold
    return found


def _hold_of(one: Used, holds: Mapping[tuple[int, str], Hold]) -> Hold | None:
    by_id = holds.get((one.organisation_id, one.admission)) if one.admission else None
    return by_id or (holds.get((one.organisation_id, f"call:{one.call_id}")) if one.call_id else None)


class CountingRules:
    """An organisation's quotas in force, its prices and its calendar, for use that is counted after it happened."""

    def __init__(
        self,
        quotas: Sequence[Quota],
        prices: Sequence[PriceEstimate],
        periods: Sequence[Span],
        organisation: Organisation,
    ) -> None:
        self.organisation = organisation
        self.quotas = quotas
        # By meter and model, each in the order in which they became valid.
        self._prices: dict[tuple[str, str], list[PriceEstimate]] = defaultdict(list)
        for price in sorted(prices, key=lambda price: price.valid_from):
            self._prices[price.meter_key, price.model].append(price)
        self._periods = periods
        self._spans: dict[tuple[str, datetime], Span] = {}

    @classmethod
    def of(cls, organisation_id: int, quotas: Sequence[Quota] | None = None) -> "CountingRules":
        """With all quotas in force, unless only some are asked for."""
        if quotas is None:
            quotas = list(Quota.objects.active().filter(organisation_id=organisation_id).select_related("meter"))
        rows = BillingWindow.objects.filter(organisation_id=organisation_id).order_by("starts_at")
        return cls(
            quotas,
            list(PriceEstimate.objects.filter(organisation_id=organisation_id)),
            [Span(row.starts_at, row.ends_at) for row in rows],
            Organisation.objects.get(pk=organisation_id),
        )

    @classmethod
    def without_prices(cls, organisation: Organisation, quotas: Sequence[Quota]) -> "CountingRules":
        """To ask for windows only: nothing can be counted by it."""
        has_periods = any(quota.window == Window.BILLING_PERIOD for quota in quotas)
        rows = BillingWindow.objects.filter(organisation=organisation).order_by("starts_at") if has_periods else ()
        return cls(quotas, (), [Span(row.starts_at, row.ends_at) for row in rows], organisation)

    def window_of(self, quota: Quota, instant: datetime) -> Span:
        return self._span(quota.window, instant)

    def counted(self, one: Used, *, besides: Collection[int] = ()) -> Iterable[tuple[Place, datetime | None, Decimal]]:
        """(counter, its end, what is added) for each quota that the use fits."""
        for quota in self.quotas:
            if quota.pk in besides or not _fits(quota, one):
                continue
            amount = self._amount(quota, one)
            if amount:
                span = self._span(quota.window, one.minute)
                subject = one.end_user if quota.scope == QuotaScope.END_USER and not quota.end_user else ""
                yield (one.organisation_id, quota.pk, subject, span.start), span.end, amount

    def _amount(self, quota: Quota, one: Used) -> Decimal:
        match quota.measure:
            case Measure.METER:
                return one.units if quota.meter is not None and quota.meter.key == one.meter_key else Decimal(0)
            case Measure.REQUESTS:
                return one.units if one.meter_key == REQUESTS else Decimal(0)
            case Measure.SPEND:
                return spend_of({one.meter_key: one.units}, self._price(one))
        return Decimal(0)

    def _price(self, one: Used) -> dict[str, Decimal]:
        """The price of its meter: of its model before that of any, of those the newest valid by then."""
        own, of_any = ((one.meter_key, model) for model in (one.model, ""))
        for place in (own, of_any):
            valid = [price for price in self._prices[place] if price.valid_from <= one.minute]
            if valid:
                return {one.meter_key: valid[-1].unit_price}
        return {}

    def _span(self, window: str, minute: datetime) -> Span:
        if (window, minute) not in self._spans:
            billing = next(
                (span for span in self._periods if span.start <= minute and span.end and minute < span.end), None
            )
            zone: ZoneInfo = self.organisation.zone
            self._spans[window, minute] = window_at(window, minute, zone=zone, billing=billing)
        return self._spans[window, minute]


def _fits(quota: Quota, one: Used) -> bool:
    match quota.scope:
        case QuotaScope.PROJECT:
            is_in_scope = quota.project_id == one.project_id
        case QuotaScope.API_KEY:
            is_in_scope = quota.api_key_id == one.api_key_id
        case QuotaScope.END_USER:
            is_in_scope = bool(one.end_user) and quota.end_user in ("", one.end_user)
        case _:
            is_in_scope = True
    return is_in_scope and allows_model(quota.model_patterns, one.model)
