"""Decimals that are never rounded: Python's own arithmetic keeps 28 digits, readings may have more."""

from collections.abc import Iterable
from decimal import Context, Decimal

# Values have at most 42 digits; this leaves room for any number of them.
EXACT = Context(prec=400)


def exact_sum(values: Iterable[Decimal]) -> Decimal:
    """The sum to the last digit."""
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


def exact_text(value: Decimal) -> str:
    """Every digit and no exponent: what leaves the house in JSON and CSV."""
    return f"{value:f}"
