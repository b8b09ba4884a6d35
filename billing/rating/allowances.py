"""Included usage: what of a quantity an allowance covers, per meter or drawn from one pool by several meters."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from billing.money import EXACT, QUOTIENT, ZERO, plain, require_not_negative, require_positive

# How finely a pool is drawn from: what a meter's units take of it need not divide it.
FINEST = Decimal("1e-12")


@dataclass(frozen=True, slots=True)
class SharedAllowance:
    """`units` per period, of which a unit of each meter takes its weight. Meters without a weight take no part."""

    units: Decimal
    weights: Mapping[str, Decimal]  # by meter

    def __post_init__(self) -> None:
        require_not_negative(self.units, "shared allowance")
        for weight in self.weights.values():
            require_positive(weight, "weight")


class Drawing:
    """What is left of a period's allowances, while one usage after the other is taken off them."""

    def __init__(self, included: Mapping[str, Decimal], shared: SharedAllowance | None) -> None:
        self._left = dict(included)
        self._weights = {} if shared is None else shared.weights
        self._pool = ZERO if shared is None else shared.units

    def take(self, meter: str, quantity: Decimal) -> Decimal:
        """How much of the quantity is included: by the meter's own allowance first, then by the pool."""
        own, rest = apply_allowance(quantity, self._left.get(meter, ZERO))
        self._left[meter] = EXACT.subtract(self._left.get(meter, ZERO), own)
        weight = self._weights.get(meter)
        if weight is None:
            return own
        affordable = QUOTIENT.divide(self._pool, weight).quantize(FINEST, ROUND_DOWN, QUOTIENT)
        pooled, _ = apply_allowance(rest, affordable)
        self._pool = EXACT.subtract(self._pool, EXACT.multiply(pooled, weight))
        return plain(EXACT.add(own, pooled))


def apply_allowance(quantity: Decimal, allowance: Decimal) -> tuple[Decimal, Decimal]:
    """(included, billable): how much the allowance covers, never more than either and nothing of a correction below
    zero, and what is left to price."""
    included = plain(max(ZERO, min(quantity, allowance)))
    return included, plain(EXACT.subtract(quantity, included))
