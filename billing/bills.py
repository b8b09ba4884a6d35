"""The bill of one period, as figures: what the running bill shows and what closing freezes, computed once, here.

Fees first, then usage, then what earlier closed periods still owe, then what coupons take off; what credit pays comes
after all that (`bill_credits`). Amounts stay exact; the total is their sum rounded once, and the lines' shares of it
add up to it. Writes nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import msgspec

from billing import rating
from billing.discounts import discounts
from billing.drawing import Draw
from billing.fees import fee_lines
from billing.models import PlanVersion, Subscription
from billing.models.invoices import LineKind
from billing.money import apportion, exact_sum, minimum_charge, plain, round_to_minor
from billing.periods import Period
from billing.rated_usage import RatedUsage, rate_period
from billing.schedules import RESOLUTION, version_at

KEY_LENGTH = 400
# What a component's lines are on a bill; any other kind's are usage.
KINDS = {
    rating.FlatFee.kind: LineKind.FLAT_FEE,
    rating.Minimum.kind: LineKind.COMMITMENT,
    rating.Maximum.kind: LineKind.COMMITMENT,
}


class BillLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line of a bill. billable = quantity - included; amount_exact = Σ steps where there are any, otherwise
    billable × unit_price ÷ scale."""

    key: str
    kind: str
    description: str
    amount_exact: Decimal
    explanation: str
    period: Period
    # The line's share of the rounded total, in minor units; 0 until the bill is put together.
    amount_minor: int = 0
    meter: str = ""
    model: str = ""
    quantity: Decimal | None = None
    included: Decimal | None = None
    billable: Decimal | None = None
    unit_price: Decimal | None = None
    scale: Decimal | None = None
    steps: tuple[rating.Step, ...] = ()
    price_ids: tuple[str, ...] = ()

    @property
    def period_start(self) -> datetime:
        return self.period.start

    @property
    def period_end(self) -> datetime:
        return self.period.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    period: Period
    cutoff: datetime
    currency: str
    version: PlanVersion
    lines: tuple[BillLine, ...]
    total_exact: Decimal
    total_minor: int
    # Charged by the plan, but no price is known: owed by nobody until the operator adds one.
    unpriced: tuple[rating.Reading, ...]
    # Metered, and not charged by the plan.
    uncovered: tuple[rating.Reading, ...]
    # Everything the figures rest on: the period itself first, then earlier periods that were rated again.
    rated: tuple[RatedUsage, ...]
    # Minimum commitments that are not met yet, while the period runs: what closing would add if nothing more were
    # used. Not in the total; each share is its own amount rounded.
    expected: tuple[BillLine, ...] = ()
    # What the credit lines take from grants; closing books it.
    draws: tuple[Draw, ...] = ()
    # What lapses of credit that the plan brought, beyond the most that stays for another period.
    lapses: tuple[Draw, ...] = ()

    @property
    def is_too_small(self) -> bool:
        """Whether the total is something, but less than can be charged; it then moves to the next invoice."""
        return self.total_exact != 0 and self.total_minor < minimum_charge(self.currency)

    @property
    def owed_minor(self) -> int:
        """What it gives back, if it is below zero."""
        return max(0, -self.total_minor)

    @property
    def paid_by_credit_minor(self) -> int:
        """What the credit lines take off the rounded total."""
        return -sum(line.amount_minor for line in self.lines if line.kind == LineKind.CREDIT)

    @property
    def usage_minor(self) -> int:
        """What the usage of the period has of the rounded total."""
        return sum(line.amount_minor for line in self.lines if line.kind == LineKind.USAGE)


def build_bill(
    subscription: Subscription,
    period: Period,
    *,
    cutoff: datetime,
    opening: Iterable[BillLine] = (),
    adjustments: Iterable[BillLine] = (),
    rated_again: tuple[RatedUsage, ...] = (),
    until: datetime | None = None,
    coming: Sequence[rating.Reading] | None = None,
) -> Bill:
    """The bill of a period from what is metered now, before credit. `opening` is what the invoice before carried over.

    `until` looks back: only what was used before it counts. With `coming` it looks ahead: the bill is that of the whole
    period, if this is what will be used from then on.
    """
    rated = rate_period(subscription, period, until=until, coming=coming or ())
    is_running = coming is None and (cutoff < period.end or until is not None)
    due = rated.rating.without(rating.Minimum.kind) if is_running else rated.rating
    lines = [
        *opening,
        *(line_from_rating(line) for line in fee_lines(subscription, period)),
        *(line_from_rating(line) for line in due.lines),
        *adjustments,
    ]
    lines += discount_lines(subscription, period, lines)
    shared, total_exact, total_minor = share_total(lines, subscription.currency)
    everything = (rated, *rated_again)
    return Bill(
        period=period,
        cutoff=cutoff,
        currency=subscription.currency,
        version=rated.version,
        lines=shared,
        total_exact=total_exact,
        total_minor=total_minor,
        unpriced=tuple(reading for usage in everything for reading in usage.rating.unpriced),
        uncovered=rated.rating.uncovered,
        rated=everything,
        expected=_expected(rated.rating, subscription.currency) if is_running else (),
    )


def settling_bill(
    subscription: Subscription,
    period: Period,
    *,
    cutoff: datetime,
    opening: Iterable[BillLine],
    adjustments: Iterable[BillLine],
    rated_again: tuple[RatedUsage, ...],
) -> Bill:
    """The bill of the time after a subscription's end, in which nothing is used but late usage may come in."""
    lines = [*opening, *adjustments]
    lines += discount_lines(subscription, period, lines)
    shared, total_exact, total_minor = share_total(lines, subscription.currency)
    return Bill(
        period=period,
        cutoff=cutoff,
        currency=subscription.currency,
        version=version_at(subscription, period.start - RESOLUTION),
        lines=shared,
        total_exact=total_exact,
        total_minor=total_minor,
        unpriced=tuple(reading for usage in rated_again for reading in usage.rating.unpriced),
        uncovered=(),
        rated=rated_again,
    )


def _expected(rated: rating.Rating, currency: str) -> tuple[BillLine, ...]:
    minimums = [line_from_rating(line) for line in rated.lines if line.kind == rating.Minimum.kind]
    return tuple(
        msgspec.structs.replace(line, amount_minor=round_to_minor(line.amount_exact, currency)) for line in minimums
    )


def with_line(bill: Bill, line: BillLine) -> Bill:
    """The bill with one more line at its end, and the total shared out again."""
    shared, total_exact, total_minor = share_total([*bill.lines, line], bill.currency)
    return replace(bill, lines=shared, total_exact=total_exact, total_minor=total_minor)


def share_total(lines: Iterable[BillLine], currency: str) -> tuple[tuple[BillLine, ...], Decimal, int]:
    """(lines with their shares, the exact sum, the sum rounded once): design.md, "Round once"."""
    lines = list(lines)
    total_minor, shares = apportion([line.amount_exact for line in lines], currency)
    shared = tuple(msgspec.structs.replace(line, amount_minor=share) for line, share in zip(lines, shares, strict=True))
    return shared, plain(exact_sum(line.amount_exact for line in lines)), total_minor


def discount_lines(subscription: Subscription, period: Period, lines: Sequence[BillLine]) -> list[BillLine]:
    return [
        BillLine(
            key=discount.key,
            kind=LineKind.DISCOUNT,
            description=discount.description,
            amount_exact=discount.amount,
            explanation=discount.explanation,
            period=period,
        )
        for discount in discounts(subscription, period, lines)
    ]


def line_from_rating(line: rating.Line) -> BillLine:
    return BillLine(
        key=short_key(line.key),
        kind=KINDS.get(line.kind, LineKind.USAGE),
        description=line.description,
        amount_exact=line.amount,
        explanation=line.explanation,
        period=line.period,
        meter=line.meter,
        model=line.model,
        quantity=line.quantity,
        included=line.included,
        billable=line.billable,
        unit_price=line.unit_price,
        scale=line.scale,
        steps=line.steps,
        price_ids=line.price_row_ids,
    )


def short_key(key: str) -> str:
    """The key itself, or where a model's name makes it too long to store, its beginning and a digest of the whole."""
    if len(key) <= KEY_LENGTH - 40:  # leaves room for the prefix of an adjustment
        return key
    return f"{key[:200]}:{hashlib.sha256(key.encode()).hexdigest()}"
