"""Decimals that are never rounded: Python's own arithmetic keeps 28 digits, readings may have more."""

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal

# Values have at most 42 digits; this leaves room for any number of them.
EXACT = Context(prec=400, rounding=ROUND_HALF_UP)
# Decimals of an average: as many as a metered value may have.
AVERAGE_STEP = Decimal(1).scaleb(-18)


def exact_sum(values: Iterable[Decimal]) -> Decimal:
    """The sum to the last digit."""
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


def average(total: Decimal, count: int) -> Decimal:
    """An exact sum divided: to 18 decimals, half away from zero, without zeros that say nothing."""
    quotient = EXACT.divide(total, Decimal(count)).quantize(AVERAGE_STEP, context=EXACT)
    return Decimal(f"{quotient:f}".rstrip("0").rstrip("."))


def exact_text(value: Decimal) -> str:
    """Every digit and no exponent: what leaves the house in JSON and CSV."""
    return f"{value:f}"
