"""One price for every unit of a meter beyond an included allowance."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from billing.money import cost_of, require_decimal
from billing.rating.allowances import apply_allowance
from billing.rating.component import MeterComponent, Terms
from billing.rating.lines import Line
from billing.rating.wording import usage_sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit(MeterComponent):
    kind: ClassVar[str] = "per_unit"

    unit_price: Decimal  # in the currency's major unit, for `scale` units

    def __post_init__(self) -> None:
        MeterComponent.__post_init__(self)
        require_decimal(self.unit_price, "unit price")

    def line_for(self, quantity: Decimal, terms: Terms) -> Line:
        included, billable = apply_allowance(quantity, self.included)
        amount = cost_of(billable, self.unit_price, self.scale)
        return Line(
            key=f"{self.id}:{self.meter}",
            component_id=self.id,
            kind=self.kind,
            meter=self.meter,
            model="",
            description=self.label,
            quantity=quantity,
            included=included,
            billable=billable,
            unit_price=self.unit_price,
            scale=self.scale,
            amount=amount,
            price_row_ids=(),
            period=terms.period,
            explanation=usage_sentence(
                self.meter,
                quantity=quantity,
                included=included,
                billable=billable,
                unit_price=self.unit_price,
                scale=self.scale,
                amount=amount,
                currency=terms.currency,
            ),
        )
