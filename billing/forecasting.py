"""Where the current bill is heading if use goes on as it has: a straight line, said only when there is ground for it.

The readings so far are stretched to the whole period and rated by the same formula as the bill, so that allowances and
tiers are respected. No trend, no weekday, no interval: those belong to a real forecast.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from billing import rating
from billing.bills import Bill
from billing.catalogue import components_of
from billing.models.invoices import RATED_KINDS
from billing.money import EXACT, QUOTIENT, exact_sum, round_to_minor

# Less than this says nothing about a period: the first days are rarely like the rest.
LEAST_TIME = timedelta(days=3)
LEAST_SHARE = Decimal("0.15")


@dataclass(frozen=True, slots=True)
class Projection:
    total_minor: int
    # How much of the period it rests on, 0 to 1.
    share_passed: Decimal


def straight_line(bill: Bill, now: datetime) -> Projection | None:
    """The period's total if use goes on as so far; None too early, after the period, or without usage."""
    passed, whole = now - bill.period.start, bill.period.end - bill.period.start
    share = QUOTIENT.divide(_seconds(passed), _seconds(whole))
    usage = bill.rated[0]
    if passed < LEAST_TIME or not LEAST_SHARE <= share < 1 or not usage.readings:
        return None
    stretched = [replace(reading, quantity=_stretched(reading.quantity, share)) for reading in usage.readings]
    rated = rating.rate(
        stretched,
        components=components_of(usage.version),
        prices=usage.prices,
        costs=usage.costs,
        period=bill.period,
        fee_period=None,
        currency=bill.currency,
    )
    others = exact_sum(line.amount_exact for line in bill.lines if line.kind not in RATED_KINDS)
    charged = rated.without(rating.FlatFee.kind).total_exact
    total = round_to_minor(EXACT.add(charged, others), bill.currency)
    return Projection(total, share)


def _seconds(span: timedelta) -> Decimal:
    return Decimal(span // timedelta(seconds=1))


def _stretched(quantity: Decimal, share: Decimal) -> Decimal:
    """To whole units: a projection has no use for fractions of a token."""
    return QUOTIENT.divide(quantity, share).to_integral_value()
