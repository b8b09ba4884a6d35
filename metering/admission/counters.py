"""Which counters a call touches, and by how much. Arithmetic: no database, no clock."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

from metering.admission.lookups import QuotaInForce, Terms
from metering.exact import EXACT, exact_sum
from metering.quota_windows import FOR_EVER, Span, window_at

ZERO, ONE = Decimal(0), Decimal(1)


class Counter(msgspec.Struct, frozen=True, gc=False):
    """One counter and what a call asks of it."""

    quota: QuotaInForce
    subject: str
    span: Span
    wanted: Decimal

    @property
    def place(self) -> tuple[int, str, datetime]:
        """Its key; counters are locked in this order."""
        return self.quota.id, self.subject, self.span.start


def counters_of(
    terms: Terms, estimate: Mapping[str, Decimal], *, model: str, end_user: str, zone: ZoneInfo, now: datetime
) -> list[Counter]:
    """In the order in which counters are locked."""
    spans: dict[str, Span] = {}
    found = []
    for quota in terms.quotas:
        if not quota.is_about(model):
            continue
        if quota.window not in spans:
            spans[quota.window] = window_at(quota.window, now, zone=zone, billing=terms.billing)
        span = FOR_EVER if quota.measure == "concurrent" else spans[quota.window]
        subject = end_user if quota.scope == "end_user" and not quota.end_user else ""
        found.append(Counter(quota, subject, span, share_of(quota.kind, estimate, terms.prices)))
    return sorted(found, key=lambda counter: counter.place)


def share_of(kind: str, units: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> Decimal:
    """What usage comes to on a counter of this kind, while the call runs."""
    if kind == "concurrent":
        return ONE
    return used_of(kind, units, prices)


def used_of(kind: str, units: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> Decimal:
    """What usage comes to on a counter of this kind, once the call has ended."""
    if kind == "requests":
        return ONE
    if kind == "concurrent":
        return ZERO
    if kind == "spend":
        return spend_of(units, prices)
    return units.get(kind.removeprefix("meter:"), ZERO)


def spend_of(units: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> Decimal:
    """Units at their prices; what has no price costs nothing here, as it would on a bill."""
    return exact_sum(EXACT.multiply(count, prices[meter]) for meter, count in units.items() if meter in prices)
