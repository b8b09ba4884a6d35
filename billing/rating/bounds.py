"""Minimum commitments and caps: lines that level what other components charge, on exact amounts.

They price no usage. Once every other component has its lines, caps come first, in the plan's order, then minimums,
each against what is left after the caps. What a cap takes off counts against its components from the last one up.
Minimums do not count one another. A fee counts for the period it is for, whenever it is charged.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import ClassVar

from billing.money import EXACT, ONE, ZERO, exact_sum, format_exact, plain, require_not_negative
from billing.rating.component import Component, Priced, Terms
from billing.rating.lines import Line
from billing.rating.readings import Reading


class UnknownComponent(ValueError):
    code = "unknown_component"

    def __init__(self, label: str, component_id: str) -> None:
        super().__init__(
            f"“{label}” counts component {component_id}, which the plan does not have, or which is itself a minimum "
            "or a cap."
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """What one component charges for the period, so far."""

    label: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound(Component):
    amount: Decimal  # per period, in the currency's major unit
    of: tuple[str, ...] = ()  # ids of the components that count; empty: all that are not bounds themselves

    def __post_init__(self) -> None:
        require_not_negative(self.amount, "amount")

    def covers(self, reading: Reading) -> bool:
        return False

    def price(self, readings: Sequence[Reading], terms: Terms) -> Priced:
        return Priced(())

    def counted(self, charges: Mapping[str, Charge]) -> dict[str, Charge]:
        return {id: charge for id, charge in charges.items() if not self.of or id in self.of}

    @abstractmethod
    def difference(self, total: Decimal) -> Decimal:
        """What the line has to come to where the counted charges come to `total`; zero: no line."""

    @abstractmethod
    def sentence(self, counted: str, total: Decimal, difference: Decimal, currency: str) -> str: ...

    def line(self, charges: Mapping[str, Charge], terms: Terms) -> Line | None:
        counted = self.counted(charges)
        total = plain(exact_sum(charge.amount for charge in counted.values()))
        difference = plain(self.difference(total))
        if not difference:
            return None
        names = ", ".join(charge.label for charge in counted.values()) if self.of else "all charges"
        return Line(
            key=self.id,
            component_id=self.id,
            kind=self.kind,
            meter="",
            model="",
            description=self.label,
            quantity=ONE,
            included=ZERO,
            billable=ONE,
            unit_price=difference,
            scale=ONE,
            amount=difference,
            price_row_ids=(),
            period=terms.period,
            explanation=self.sentence(names, total, difference, terms.currency),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum(Bound):
    """A commitment: the line fills what the counted charges lack of it."""

    kind: ClassVar[str] = "minimum"

    def difference(self, total: Decimal) -> Decimal:
        return max(ZERO, EXACT.subtract(self.amount, total))

    def sentence(self, counted: str, total: Decimal, difference: Decimal, currency: str) -> str:
        return (
            f"At least {format_exact(self.amount, currency)} for {counted}, which come to "
            f"{format_exact(total, currency)}: the rest = {format_exact(difference, currency)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Maximum(Bound):
    """A cap: the line takes off what the counted charges have beyond it."""

    kind: ClassVar[str] = "maximum"

    def difference(self, total: Decimal) -> Decimal:
        return min(ZERO, EXACT.subtract(self.amount, total))

    def sentence(self, counted: str, total: Decimal, difference: Decimal, currency: str) -> str:
        return (
            f"At most {format_exact(self.amount, currency)} for {counted}, which come to "
            f"{format_exact(total, currency)}: taken off = {format_exact(difference, currency)}"
        )


def require_known(components: Sequence[Component]) -> None:
    """Raises UnknownComponent where a bound counts what cannot be counted."""
    countable = {component.id for component in components if not isinstance(component, Bound)}
    for component in components:
        if isinstance(component, Bound):
            for unknown in [id for id in component.of if id not in countable]:
                raise UnknownComponent(component.label, unknown)


def level(components: Sequence[Component], charges: Mapping[str, Charge], terms: Terms) -> list[Line]:
    """The lines of caps, then those of minimums; `charges` are of the other components, by id in the plan's order."""
    charges = dict(charges)
    lines: list[Line] = []
    for cap in [component for component in components if isinstance(component, Maximum)]:
        line = cap.line(charges, terms)
        if line is not None:
            lines.append(line)
            charges |= _lowered(cap.counted(charges), line.amount.copy_negate())
    minimums = [component.line(charges, terms) for component in components if isinstance(component, Minimum)]
    return [*lines, *(line for line in minimums if line is not None)]


def _lowered(charges: Mapping[str, Charge], reduction: Decimal) -> dict[str, Charge]:
    """The charges after `reduction` came off, from the last one up, none below zero."""
    lowered = dict(charges)
    for id, charge in reversed(tuple(charges.items())):
        share = min(reduction, max(ZERO, charge.amount))
        lowered[id] = replace(charge, amount=EXACT.subtract(charge.amount, share))
        reduction = EXACT.subtract(reduction, share)
    return lowered
