"""Shares of a fixed amount by time: what a fee, an allowance or a commitment per period is worth for a part of it.

Shares are differences of one curve over the period, so that the parts of any division add up to the whole exactly.
"""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from billing.money import EXACT, QUOTIENT, ZERO, format_quantity, plain
from billing.periods import Period

# Amounts are cut here; allowances of whole units stay whole.
AMOUNT_STEP = Decimal("1e-12")
WHOLE = Decimal(1)
UNITS = (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1)))
SECOND = timedelta(seconds=1)


def share(amount: Decimal, part: Period, whole: Period, *, step: Decimal = AMOUNT_STEP) -> Decimal:
    """What `part` has of an amount for `whole`, by the second."""
    return plain(EXACT.subtract(_until(amount, part.end, whole, step), _until(amount, part.start, whole, step)))


def share_of_units(units: Decimal, part: Period, whole: Period) -> Decimal:
    """The same for an allowance: whole units of whole units."""
    is_whole = units == units.to_integral_value()
    return share(units, part, whole, step=WHOLE if is_whole else AMOUNT_STEP)


def part_in_words(part: Period, whole: Period) -> str:
    """ "10 of 30 days": in the largest unit that measures both exactly."""
    spans = part.end - part.start, whole.end - whole.start
    name, unit = next(
        ((name, unit) for name, unit in UNITS if not any(span % unit for span in spans)), ("second", SECOND)
    )
    of_part, of_whole = (format_quantity(Decimal(span // unit)) for span in spans)
    return f"{of_part} of {of_whole} {name}s"


def _until(amount: Decimal, instant: datetime, whole: Period, step: Decimal) -> Decimal:
    if instant == whole.start:
        return ZERO
    if instant == whole.end:
        return amount
    elapsed, total = Decimal((instant - whole.start) // SECOND), Decimal((whole.end - whole.start) // SECOND)
    return QUOTIENT.divide(EXACT.multiply(amount, elapsed), total).quantize(step, ROUND_HALF_EVEN, QUOTIENT)
