"""Graduated prices: each tier's units at that tier's price, beyond an included allowance."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from billing.money import (
    EXACT,
    ZERO,
    cost_of,
    exact_sum,
    format_exact,
    format_quantity,
    format_unit_price,
    plain,
)
from billing.rating.allowances import apply_allowance
from billing.rating.component import MeterComponent, Terms
from billing.rating.lines import Line, Step
from billing.rating.tiers import Tier, require_tiers
from billing.rating.wording import units_used


@dataclass(frozen=True, slots=True, kw_only=True)
class Graduated(MeterComponent):
    """The allowance comes off first; tiers count what is left. Net corrections below zero run on at the first price."""

    kind: ClassVar[str] = "graduated"

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        MeterComponent.__post_init__(self)
        require_tiers(self.tiers)

    def line_for(self, quantity: Decimal, terms: Terms) -> Line:
        included, billable = apply_allowance(quantity, self.included)
        steps = self._steps(billable, terms.currency)
        amount = plain(exact_sum(step.amount for step in steps))
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
            unit_price=None,
            scale=self.scale,
            amount=amount,
            price_row_ids=(),
            period=terms.period,
            explanation=_sentence(
                units_used(quantity, self.meter), included, steps, format_exact(amount, terms.currency)
            ),
            steps=steps,
        )

    def _steps(self, billable: Decimal, currency: str) -> tuple[Step, ...]:
        steps: list[Step] = []
        reached = ZERO
        for tier in self.tiers:
            if billable == reached or (steps and billable < reached):
                break
            units = EXACT.subtract(billable if tier.up_to is None else min(billable, tier.up_to), reached)
            steps.append(self._step(tier, units=plain(units), is_first=not steps, currency=currency))
            reached = EXACT.add(reached, units)
        return tuple(steps)

    def _step(self, tier: Tier, *, units: Decimal, is_first: bool, currency: str) -> Step:
        flat = tier.flat if units > 0 else ZERO
        amount = plain(EXACT.add(cost_of(units, tier.unit_price, self.scale), flat))
        price = format_unit_price(tier.unit_price, scale=self.scale, currency=currency)
        fee = f" + {format_exact(flat, currency)} for reaching the tier" if flat else ""
        place = "first" if is_first else "next"
        explanation = f"{place} {format_quantity(units)} × {price}{fee} = {format_exact(amount, currency)}"
        return Step(units, tier.unit_price, self.scale, flat, amount, explanation)


def _sentence(units: str, included: Decimal, steps: Sequence[Step], result: str) -> str:
    """ "800 calls, of which 100 included: first 500 × $0.02 = $10.00; next 200 × $0.01 = $2.00; together $12.00"."""
    if not steps:
        return f"{units}, all included = {result}"
    allowance = f", of which {format_quantity(included)} included" if included else ""
    together = f"; together {result}" if len(steps) > 1 else ""
    return f"{units}{allowance}: {'; '.join(step.explanation for step in steps)}{together}"
