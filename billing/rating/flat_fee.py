"""A fixed amount per period, whatever was used."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from billing.money import ZERO, format_exact, plain, require_decimal
from billing.rating.component import Component, Priced, Terms
from billing.rating.lines import Line
from billing.rating.readings import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatFee(Component):
    kind: ClassVar[str] = "flat_fee"

    amount: Decimal  # in the currency's major unit
    in_advance: bool  # charged for Terms.fee_period, the period that follows; otherwise for the period billed

    def __post_init__(self) -> None:
        require_decimal(self.amount, "fee")

    def covers(self, reading: Reading) -> bool:
        return False

    def charged(self, lines: Sequence[Line]) -> Decimal:
        """The fee of the period billed, which one in advance was charged before."""
        return self.amount

    def price(self, readings: Sequence[Reading], terms: Terms) -> Priced:
        period = terms.fee_period if self.in_advance else terms.period
        if period is None:
            return Priced(())
        timing = "in advance for the coming period" if self.in_advance else "for this period"
        line = Line(
            key=self.id,
            component_id=self.id,
            kind=self.kind,
            meter="",
            model="",
            description=self.label,
            quantity=Decimal(1),
            included=ZERO,
            billable=Decimal(1),
            unit_price=self.amount,
            scale=Decimal(1),
            amount=plain(self.amount),
            price_row_ids=(),
            period=period,
            explanation=f"{self.label}, {timing} = {format_exact(self.amount, terms.currency)}",
        )
        return Priced((line,))
