"""Cost-plus: every reading at the provider's cost times a markup, within a floor and a ceiling for the unit price."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from billing.money import (
    EXACT,
    cost_of,
    format_exact,
    format_quantity,
    format_unit_price,
    plain,
    require_not_negative,
    require_positive,
)
from billing.rating.component import Terms
from billing.rating.price_book import PriceBook, PriceRow
from billing.rating.rate_card import RateCard


class FloorAboveCeiling(ValueError):
    code = "floor_above_ceiling"

    def __init__(self) -> None:
        super().__init__("The lowest unit price must not be above the highest.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPlus(RateCard):
    """A rate card over provider costs; `multiplier` is the markup, 1.3 for thirty percent on top. Usage without a known
    cost is unpriced, whatever the floor says."""

    kind: ClassVar[str] = "cost_plus"

    floor: Decimal | None = None  # the least that `scale` units cost
    ceiling: Decimal | None = None  # the most
    scale: Decimal = Decimal(1_000_000)

    def __post_init__(self) -> None:
        RateCard.__post_init__(self)
        require_positive(self.scale, "scale")
        for bound in (self.floor, self.ceiling):
            if bound is not None:
                require_not_negative(bound, "bound of the unit price")
        if self.floor is not None and self.ceiling is not None and self.floor > self.ceiling:
            raise FloorAboveCeiling

    def book(self, terms: Terms) -> PriceBook:
        return terms.costs

    def unit_price(self, row: PriceRow) -> Decimal:
        price = self._marked_up(row)
        if self.floor is not None:
            price = max(price, cost_of(row.scale, self.floor, self.scale))
        if self.ceiling is not None:
            price = min(price, cost_of(row.scale, self.ceiling, self.scale))
        return plain(price)

    def note(self, row: PriceRow, currency: str) -> str:
        """ " (cost $0.05 × 1.3 = $0.065, but at least $0.10 per 1,000,000)"."""
        marked_up = self._marked_up(row)
        note = f"cost {format_exact(row.amount, currency)} × {format_quantity(self.multiplier)}"
        charged = self.unit_price(row)
        if charged == marked_up:
            return f" ({note})"
        bound, reach = (self.floor, "least") if charged > marked_up else (self.ceiling, "most")
        assert bound is not None, "only a bound moves the price"
        limit = format_unit_price(bound, scale=self.scale, currency=currency)
        return f" ({note} = {format_exact(marked_up, currency)}, but at {reach} {limit})"

    def _marked_up(self, row: PriceRow) -> Decimal:
        return plain(EXACT.multiply(row.amount, self.multiplier))
