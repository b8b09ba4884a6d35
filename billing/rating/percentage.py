"""A share of a metered amount of money, beyond an amount that is free."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from billing.money import (
    cost_of,
    currency_named,
    format_exact,
    format_quantity,
    require_not_negative,
)
from billing.rating.allowances import apply_allowance
from billing.rating.component import MeterComponent, Terms
from billing.rating.lines import Line
from billing.rating.wording import meter_noun

HUNDRED = Decimal(100)


class MeterCurrencyDiffers(ValueError):
    code = "meter_currency_differs"

    def __init__(self, meter: str, metered: str, billed: str) -> None:
        super().__init__(f"A share of {meter}, metered in {metered}, cannot be charged in {billed}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentage(MeterComponent):
    """The meter counts money in the major unit of `currency`, which must be the bill's. The unit price of its line is
    the percentage, for 100 of the currency. A net refund credits its share."""

    kind: ClassVar[str] = "percentage"

    percent: Decimal
    currency: str  # what the meter counts
    scale: Decimal = HUNDRED

    def __post_init__(self) -> None:
        MeterComponent.__post_init__(self)
        require_not_negative(self.percent, "percentage")
        currency_named(self.currency)

    def line_for(self, quantity: Decimal, terms: Terms) -> Line:
        if terms.currency != self.currency:
            raise MeterCurrencyDiffers(self.meter, self.currency, terms.currency)
        included, billable = apply_allowance(quantity, self.included)
        amount = cost_of(billable, self.percent, HUNDRED)
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
            unit_price=self.percent,
            scale=HUNDRED,
            amount=amount,
            price_row_ids=(),
            period=terms.period,
            explanation=self._sentence(quantity, included, billable, amount),
        )

    def _sentence(self, quantity: Decimal, included: Decimal, billable: Decimal, amount: Decimal) -> str:
        """ "$12,345.67 of payments, of which $1,000.00 free: 2.9% of $11,345.67 = $329.02443"."""
        used, result = f"{self._money(quantity)} of {meter_noun(self.meter)}", self._money(amount)
        if not billable:
            return f"{used}, all free = {result}"
        free = f", of which {self._money(included)} free" if included else ""
        return f"{used}{free}: {format_quantity(self.percent)}% of {self._money(billable)} = {result}"

    def _money(self, amount: Decimal) -> str:
        return format_exact(amount, self.currency)
