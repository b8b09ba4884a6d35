"""What rating returns: lines with exact amounts and the arithmetic behind each in words, and what has no price."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec

from billing.money import apportion, exact_sum, plain
from billing.periods import Period
from billing.rating.labels import NO_LABELS
from billing.rating.readings import Reading


@dataclass(frozen=True, slots=True)
class Step:
    """One tier's or package's part of a line: amount = units × unit_price ÷ scale + flat."""

    units: Decimal  # priced; whole packages where only those are sold
    unit_price: Decimal
    scale: Decimal
    flat: Decimal
    amount: Decimal  # exact
    explanation: str


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a bill. billable = quantity - included; amount = Σ steps where there are any, otherwise billable ×
    unit_price ÷ scale."""

    key: str  # stable: the same component, meter, model and price row give the same key each time the period is rated
    component_id: str
    kind: str  # the component's kind, such as flat_fee
    meter: str  # '' for a flat fee
    model: str  # '' when not priced by model
    description: str
    quantity: Decimal  # units used
    included: Decimal  # of these, covered by the allowance
    billable: Decimal
    unit_price: Decimal | None  # None where there is not one price: see steps
    scale: Decimal  # units that unit_price buys
    amount: Decimal  # exact, in the currency's major unit
    price_row_ids: tuple[str, ...]  # the price book rows applied
    period: Period  # when it was used, or what the fee is for; for a price book row the part of the period it held
    explanation: str  # one sentence that can be checked by hand
    steps: tuple[Step, ...] = ()
    holds_for: str = ""  # the service tier, context length and weekly windows of its price; empty: any, at any time
    labels: Mapping[str, str] = NO_LABELS  # what it is kept apart by, such as the project


@dataclass(frozen=True, slots=True)
class Rating:
    lines: tuple[Line, ...]
    unpriced: tuple[Reading, ...]  # a rate card covers them, but no price book row is in force
    uncovered: tuple[Reading, ...]  # no component covers them
    currency: str
    total_exact: Decimal

    def without(self, *kinds: str) -> "Rating":
        """The same without the lines of components of these kinds."""
        lines = tuple(line for line in self.lines if line.kind not in kinds)
        return replace(self, lines=lines, total_exact=plain(exact_sum(line.amount for line in lines)))

    def apportioned(self) -> tuple[int, list[int]]:
        """The total and each line's share in minor units, adding up exactly."""
        return apportion([line.amount for line in self.lines], self.currency)
