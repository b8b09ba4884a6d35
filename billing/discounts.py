"""What coupons take off a bill: lines after all components, each on what the ones before it left.

A coupon of the running period takes its share of the bill's fees, usage and commitments. A percentage also goes with
late usage of the periods it held in, whether that is charged or given back. An amount never takes off more than there
is, and what is left of it lapses with its period.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from accounts.remembering import remembered
from billing import schedules
from billing.models import Coupon, CouponDuration, CouponRedemption, Subscription
from billing.models.invoices import LineKind
from billing.money import EXACT, ZERO, exact_sum, format_exact, format_quantity, plain
from billing.periods import Cadence, Period, period_number

DISCOUNTED = frozenset({LineKind.FLAT_FEE, LineKind.USAGE, LineKind.COMMITMENT})


class Charged(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def amount_exact(self) -> Decimal: ...
    @property
    def period(self) -> Period: ...


@dataclass(frozen=True, slots=True)
class Discount:
    key: str
    description: str
    # Below zero, but where late corrections give back more than is charged.
    amount: Decimal
    explanation: str


def discounts(subscription: Subscription, period: Period, lines: Sequence[Charged]) -> list[Discount]:
    """In the order in which the coupons were redeemed."""
    found: list[Discount] = []
    taken = ZERO
    for redemption in redemptions_of(subscription):
        base = exact_sum(
            line.amount_exact for line in lines if _is_discounted(redemption, subscription, period=period, line=line)
        )
        discount = _discount(redemption, EXACT.add(base, taken), subscription.currency)
        if discount is not None:
            found.append(discount)
            taken = EXACT.add(taken, discount.amount)
    return found


@remembered
def redemptions_of(subscription: Subscription) -> tuple[CouponRedemption, ...]:
    """With their coupons, in the order in which they were made."""
    return tuple(sorted(subscription.redemptions.all(), key=lambda redemption: redemption.pk))


def covers(redemption: CouponRedemption, subscription: Subscription, period: Period) -> bool:
    """Whether the coupon takes something off the period."""
    is_withdrawn = redemption.withdrawn_at is not None and period.start >= redemption.withdrawn_at
    if is_withdrawn or period.start < redemption.starts_at:
        return False
    left = periods_left(redemption, subscription, period)
    return left is None or left > 0


def periods_left(redemption: CouponRedemption, subscription: Subscription, period: Period) -> int | None:
    """How many it still covers, the given one included; None without an end."""
    coupon = redemption.coupon
    if coupon.duration == CouponDuration.FOREVER:
        return None
    passed = _number(subscription, period.start) - _number(subscription, redemption.starts_at)
    return max(0, (coupon.periods or 1) - passed)


def words_of(coupon: Coupon) -> str:
    """ "20% off", "$5.00 off each period"."""
    if coupon.percent is not None:
        return f"{format_quantity(coupon.percent)}% off"
    assert coupon.amount is not None, "a coupon is a percentage or an amount"
    each = "" if coupon.duration == CouponDuration.ONCE else " each period"
    return f"{format_exact(coupon.amount, coupon.currency)} off{each}"


def _number(subscription: Subscription, instant: datetime) -> int:
    cadence = Cadence(subscription.cadence)
    return period_number(subscription.anchor_at, instant=instant, zone=subscription.zone, cadence=cadence)


def _is_discounted(redemption: CouponRedemption, subscription: Subscription, *, period: Period, line: Charged) -> bool:
    if line.kind in DISCOUNTED:
        return covers(redemption, subscription, period)
    is_late = line.kind == LineKind.ADJUSTMENT and redemption.coupon.percent is not None
    return is_late and covers(redemption, subscription, schedules.whole_period(subscription, line.period.start))


def _discount(redemption: CouponRedemption, base: Decimal, currency: str) -> Discount | None:
    coupon, charged = redemption.coupon, format_exact(plain(base), currency)
    if coupon.percent is not None:
        amount = plain(EXACT.multiply(base, EXACT.scaleb(coupon.percent, -2)).copy_negate())
        words = f"{format_quantity(coupon.percent)}% of {charged} = {format_exact(amount, currency)}"
    else:
        assert coupon.amount is not None, "a coupon is a percentage or an amount"
        amount = plain(min(coupon.amount, max(base, ZERO)).copy_negate())
        words = f"{format_exact(coupon.amount, currency)} off {charged} = {format_exact(amount, currency)}"
    if not amount:
        return None
    return Discount(f"coupon:{redemption.public_id}", coupon.name, amount, f"Coupon {coupon.code}: {words}")
