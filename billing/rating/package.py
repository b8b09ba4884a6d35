"""Package prices: one price per started block of `scale` units, beyond an included allowance."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from billing.money import EXACT, ONE, ZERO, cost_of, format_exact, format_quantity, plain, require_decimal
from billing.rating.allowances import apply_allowance
from billing.rating.component import MeterComponent, Terms
from billing.rating.lines import Line, Step
from billing.rating.wording import units_used


@dataclass(frozen=True, slots=True, kw_only=True)
class Package(MeterComponent):
    """`scale` is the size of a package. Blocks are counted over the whole period, once: usage is never rounded up
    reading by reading. Net corrections below zero start no package and give none back."""

    kind: ClassVar[str] = "package"

    unit_price: Decimal  # of one package, in the currency's major unit

    def __post_init__(self) -> None:
        MeterComponent.__post_init__(self)
        require_decimal(self.unit_price, "price of a package")

    def line_for(self, quantity: Decimal, terms: Terms) -> Line:
        included, billable = apply_allowance(quantity, self.included)
        packages = self._started(billable)
        step = self._step(packages, terms.currency) if packages else None
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
            unit_price=self.unit_price,
            scale=self.scale,
            amount=amount,
            price_row_ids=(),
            period=terms.period,
            explanation=self._sentence(quantity, included, billable, step, format_exact(amount, terms.currency)),
            steps=(step,) if step else (),
        )

    def _started(self, billable: Decimal) -> Decimal:
        if billable <= 0:
            return ZERO
        whole, rest = EXACT.divmod(billable, self.scale)
        return plain(EXACT.add(whole, ONE) if rest else whole)

    def _step(self, packages: Decimal, currency: str) -> Step:
        units = plain(EXACT.multiply(packages, self.scale))
        amount = cost_of(packages, self.unit_price, ONE)
        blocks = f"{format_quantity(packages)} started {'block' if packages == 1 else 'blocks'}"
        price = f"{format_exact(self.unit_price, currency)} = {format_exact(amount, currency)}"
        explanation = f"{blocks} of {format_quantity(self.scale)} × {price}"
        return Step(units, self.unit_price, self.scale, ZERO, amount, explanation)

    def _sentence(self, quantity: Decimal, included: Decimal, billable: Decimal, step: Step | None, result: str) -> str:
        """ "2,300 images, of which 100 included: 2,200 make 3 started blocks of 1,000 × $4.00 = $12.00"."""
        units = units_used(quantity, self.meter)
        if step is None:
            return f"{units}, {'no block started' if billable else 'all included'} = {result}"
        if included:
            return f"{units}, of which {format_quantity(included)} included: {format_quantity(billable)} make " + (
                step.explanation
            )
        return f"{units}: {step.explanation}"
