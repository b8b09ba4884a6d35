"""Fees in advance: what a bill charges for the coming period, and what it still settles of its own.

The coming period is charged in full, by the plan that will rule when it begins, unless it begins with a trial or a
pause. If another plan takes over while it
runs, or it is cut off, its own bill gives back the unused part, to the second, and charges what the other plan's fee is
for the rest. So what was charged for a period always comes to the fees of the plans that held, by their time.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec

from billing import rating, schedules
from billing.catalogue import components_of
from billing.models import InvoiceLine, PlanVersion, Subscription
from billing.models.invoices import LineKind
from billing.money import EXACT, ONE, ZERO, format_exact, plain
from billing.periods import Period
from billing.schedules import PlanStretch

ADVANCE = "advance:"
UNUSED = "unused:"


@dataclass(frozen=True, slots=True)
class _Fee:
    """A fee per period. Plans whose fees are equal share one: it goes on from the one to the other."""

    id: str
    label: str
    amount: Decimal


def fee_lines(subscription: Subscription, period: Period) -> list[rating.Line]:
    """What the bill of the period has of fees in advance."""
    return [*_settled(subscription, period), *_coming(subscription, period)]


def _coming(subscription: Subscription, period: Period) -> list[rating.Line]:
    if not schedules.goes_on_after(subscription, period):
        return []
    following = schedules.period_after(subscription, period)
    coming = schedules.whole_period(subscription, following.start)
    first = schedules.stretches(subscription, following)[0]
    if not first.is_charged:
        return []
    lines = _rated(_advance_fees(first.version), period, coming, subscription.currency)
    return [msgspec.structs.replace(line, key=f"{ADVANCE}{line.key}") for line in lines]


def _settled(subscription: Subscription, period: Period) -> list[rating.Line]:
    """What the period itself still owes, or has too much, against what was charged in advance for it."""
    held = schedules.stretches(subscription, period)
    whole = schedules.whole_period(subscription, period.start)
    is_first = period.start == schedules.first_period(subscription).start
    only = held[0]
    if not is_first and only.period == whole and only.is_charged and not only.is_late:
        return []
    prepaid = {} if is_first else _prepaid(subscription, period)
    used: dict[_Fee, Decimal] = defaultdict(Decimal)
    charges: list[rating.Line] = []
    for stretch in [stretch for stretch in held if stretch.is_charged]:
        for fee in _advance_fees(stretch.version):
            one = _Fee(fee.id, fee.label, plain(fee.amount))
            part = rating.share(fee.amount, stretch.period, whole)
            if one in prepaid:
                used[one] = EXACT.add(used[one], part)
            else:
                charges += _charge(fee, part, stretch, whole, subscription.currency)
    credits = [_credit(fee, amount, used[fee], whole, subscription.currency) for fee, amount in prepaid.items()]
    return [*(line for line in credits if line.amount), *charges]


def _charge(
    fee: rating.FlatFee, part: Decimal, stretch: PlanStretch, whole: Period, currency: str
) -> list[rating.Line]:
    lines = _rated([replace(fee, amount=part, in_advance=False)], stretch.period, None, currency)
    if stretch.period == whole:
        return lines
    full = f"{format_exact(fee.amount, currency)} for {rating.part_in_words(stretch.period, whole)}"
    prefix = "" if stretch.period.start == whole.start else f"{stretch.period.start:%Y%m%dT%H%MZ}/"
    return [
        msgspec.structs.replace(line, key=f"{prefix}{line.key}", explanation=f"{line.explanation} ({full})")
        for line in lines
    ]


def _credit(fee: _Fee, charged: Decimal, used: Decimal, whole: Period, currency: str) -> rating.Line:
    amount = plain(EXACT.subtract(used, charged))
    before, kept, back = (format_exact(figure, currency) for figure in (charged, used, amount))
    return rating.Line(
        key=f"{UNUSED}{fee.id}",
        component_id=fee.id,
        kind=rating.FlatFee.kind,
        meter="",
        model="",
        description=f"{fee.label}, unused part",
        quantity=ONE,
        included=ZERO,
        billable=ONE,
        unit_price=amount,
        scale=ONE,
        amount=amount,
        price_row_ids=(),
        period=whole,
        explanation=f"{before} was charged in advance, {kept} of it for the time that the plan held = {back}",
    )


def _prepaid(subscription: Subscription, period: Period) -> dict[_Fee, Decimal]:
    """What the bill before charged for this period, or will charge while it is still open."""
    before = [invoice for invoice in schedules.invoices_of(subscription) if invoice.period.end == period.start]
    if not before:
        first = schedules.stretches(subscription, period)[0]
        if not first.is_charged:
            return {}
        fees = [_Fee(fee.id, fee.label, plain(fee.amount)) for fee in _advance_fees(first.version)]
        return {fee: fee.amount for fee in fees}
    rows = InvoiceLine.objects.filter(invoice=before[0].pk, kind=LineKind.FLAT_FEE, key__startswith=ADVANCE)
    return {
        _Fee(row.key.removeprefix(ADVANCE), row.description, plain(row.unit_price or ZERO)): plain(row.amount_exact)
        for row in rows
    }


def _advance_fees(version: PlanVersion) -> list[rating.FlatFee]:
    return [
        component
        for component in components_of(version)
        if isinstance(component, rating.FlatFee) and component.in_advance
    ]


def _rated(fees: list[rating.FlatFee], period: Period, fee_period: Period | None, currency: str) -> list[rating.Line]:
    prices = rating.PriceBook((), currency=currency)
    rated = rating.rate((), components=fees, prices=prices, period=period, fee_period=fee_period, currency=currency)
    return list(rated.lines)
