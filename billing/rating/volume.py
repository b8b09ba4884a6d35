"""Volume prices: all units at the price of the tier that the period's usage reaches, beyond an included allowance.

Unlike a graduated price it is not continuous: one unit more can make every unit cheaper, and so the bill smaller.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from billing.money import EXACT, ZERO, cost_of, format_exact, format_quantity, format_unit_price, plain
from billing.rating.allowances import apply_allowance
from billing.rating.component import MeterComponent, Terms
from billing.rating.lines import Line, Step
from billing.rating.tiers import Tier, require_tiers
from billing.rating.wording import units_used


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(MeterComponent):
    """The allowance comes off first; what is left decides the tier. Net corrections below zero are credited at the
    first price."""

    kind: ClassVar[str] = "volume"

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        MeterComponent.__post_init__(self)
        require_tiers(self.tiers)

    def line_for(self, quantity: Decimal, terms: Terms) -> Line:
        included, billable = apply_allowance(quantity, self.included)
        step = self._step(billable, terms.currency) if billable else None
        amount = step.amount if step else ZERO
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
            unit_price=None if step is None or step.flat else step.unit_price,
            scale=self.scale,
            amount=amount,
            price_row_ids=(),
            period=terms.period,
            explanation=self._sentence(quantity, included, step, format_exact(amount, terms.currency)),
            steps=(step,) if step else (),
        )

    def _step(self, billable: Decimal, currency: str) -> Step:
        place = next(place for place, tier in enumerate(self.tiers) if tier.up_to is None or billable <= tier.up_to)
        tier = self.tiers[place]
        flat = tier.flat if billable > 0 else ZERO
        amount = plain(EXACT.add(cost_of(billable, tier.unit_price, self.scale), flat))
        price = format_unit_price(tier.unit_price, scale=self.scale, currency=currency)
        fee = f" + {format_exact(flat, currency)} for the tier" if flat else ""
        units = f"all {format_quantity(billable)} × {price}{self._reach(place)}{fee}"
        return Step(billable, tier.unit_price, self.scale, flat, amount, f"{units} = {format_exact(amount, currency)}")

    def _reach(self, place: int) -> str:
        """ " (the price from above 1,000 up to 10,000)"; nothing where there is only one tier."""
        above = self.tiers[place - 1].up_to if place else None
        up_to = self.tiers[place].up_to
        bounds = [f"above {format_quantity(above)}"] if above is not None else []
        if up_to is not None:
            bounds.append(f"up to {format_quantity(up_to)}")
        return f" (the price for {' and '.join(bounds)})" if bounds else ""

    def _sentence(self, quantity: Decimal, included: Decimal, step: Step | None, result: str) -> str:
        """ "12,000 calls, of which 2,000 included: all 10,000 × $0.008 (the price for above 1,000) = $80.00"."""
        units = units_used(quantity, self.meter)
        if step is None:
            return f"{units}, all included = {result}"
        allowance = f", of which {format_quantity(included)} included" if included else ""
        return f"{units}{allowance}: {step.explanation}"
