"""A rate card: every reading at the price book's row for its meter and model, times the plan's multiplier."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from billing.money import EXACT, ZERO, cost_of, exact_sum, format_exact, format_quantity, plain, require_not_negative
from billing.periods import Period
from billing.rating.allowances import Drawing, SharedAllowance
from billing.rating.component import Component, Priced, Terms
from billing.rating.labels import Labels
from billing.rating.lines import Line
from billing.rating.price_book import PriceBook, PriceRow, PriceSpan
from billing.rating.readings import Reading
from billing.rating.wording import meter_noun, usage_sentence


class ReadingStraddlesPrice(ValueError):
    code = "reading_straddles_price"

    def __init__(self, reading: Reading, change: datetime) -> None:
        super().__init__(
            f"Usage of {reading.meter} {reading.model} from {reading.start.isoformat()} to {reading.end.isoformat()} "
            f"must be cut where its price changes, at {change.isoformat()}."
        )


@dataclass(frozen=True, slots=True, eq=False)
class _RowUsage:
    """All usage of one meter and model under one price row, and of one project where projects are kept apart."""

    meter: str
    model: str
    row: PriceRow
    quantity: Decimal
    period: Period  # from the first to the last instant the row held, within the period billed
    labels: Labels  # those that lines are kept apart by


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard(Component):
    """Allowances cover usage in the order in which its prices took effect in the period, then by model name, then by
    meter; so they do not depend on how finely the usage is cut. What cannot be added up is priced whole, at the price
    in force when the period begins."""

    kind: ClassVar[str] = "rate_card"

    meters: tuple[str, ...] = ()  # empty: every meter
    included: Mapping[str, Decimal] = field(default_factory=dict)  # meter -> units per period, over all its models
    shared: SharedAllowance | None = None  # one allowance for several meters, after those of their own
    multiplier: Decimal = Decimal(1)  # on every price of the book: 0.9 is ten percent off
    split_by: tuple[str, ...] = ()  # labels by which lines are kept apart, such as the project

    def __post_init__(self) -> None:
        require_not_negative(self.multiplier, "multiplier")
        for allowance in self.included.values():
            require_not_negative(allowance, "included allowance")

    def covers(self, reading: Reading) -> bool:
        return (not self.meters or reading.meter in self.meters) and self.is_open_for(reading)

    def labels_needed(self) -> frozenset[str]:
        return Component.labels_needed(self) | frozenset(self.split_by)

    def book(self, terms: Terms) -> PriceBook:
        return terms.prices

    def unit_price(self, row: PriceRow) -> Decimal:
        """What the row's scale of units costs."""
        return plain(EXACT.multiply(row.amount, self.multiplier))

    def price(self, readings: Sequence[Reading], terms: Terms) -> Priced:
        book = self.book(terms)
        unpriced: list[Reading] = []
        rows: dict[str, PriceRow] = {}
        used: dict[tuple[str, str, str, Labels], list[tuple[Reading, PriceSpan]]] = defaultdict(list)
        for reading in readings:
            span = _span_of(reading, book)
            if span.row is None:
                unpriced.append(reading)
            else:
                rows[span.row.id] = span.row
                used[reading.meter, reading.model, span.row.id, reading.known.only(self.split_by)].append(
                    (reading, span)
                )
        usages = [
            _RowUsage(meter, model, rows[row_id], quantity, _row_period(priced, terms.period), labels)
            for (meter, model, row_id, labels), priced in used.items()
            if (quantity := plain(exact_sum(reading.quantity for reading, _ in priced)))
        ]
        included = self._included(usages)
        lines = [
            self._line(usage, included[usage], terms.currency) for usage in sorted(usages, key=self._place_on_bill)
        ]
        return Priced(tuple(lines), tuple(unpriced))

    def _included(self, usages: Iterable[_RowUsage]) -> dict[_RowUsage, Decimal]:
        if not self.included and self.shared is None:
            return dict.fromkeys(usages, ZERO)
        drawing = Drawing(self.included, self.shared)
        in_turn = sorted(usages, key=lambda usage: (usage.period.start, *self._place_on_bill(usage)))
        return {usage: drawing.take(usage.meter, usage.quantity) for usage in in_turn}

    def _place_on_bill(self, usage: _RowUsage) -> tuple[Any, ...]:
        """Prices that hold for everything come before those with conditions and windows."""
        meter_place = self.meters.index(usage.meter) if self.meters else 0
        row = usage.row
        return (
            usage.labels.pairs,
            usage.model,
            meter_place,
            usage.meter,
            usage.period.start,
            row.rank[1:],  # that of its conditions
            str(row.windows or ""),
            row.id,
        )

    def _line(self, usage: _RowUsage, included: Decimal, currency: str) -> Line:
        billable = plain(EXACT.subtract(usage.quantity, included))
        unit_price = self.unit_price(usage.row)
        amount = cost_of(billable, unit_price, usage.row.scale)
        noun = meter_noun(usage.meter)
        what = f"{usage.model}, {noun}" if usage.model else noun[:1].upper() + noun[1:]
        holds_for = usage.row.holds_for
        explanation = usage_sentence(
            usage.meter,
            quantity=usage.quantity,
            included=included,
            billable=billable,
            unit_price=unit_price,
            scale=usage.row.scale,
            amount=amount,
            currency=currency,
        )
        return Line(
            key=":".join((self.id, usage.meter, usage.model, usage.row.id, *map("=".join, usage.labels.pairs))),
            component_id=self.id,
            kind=self.kind,
            meter=usage.meter,
            model=usage.model,
            description=", ".join(part for part in (what, holds_for, *usage.labels.values()) if part),
            quantity=usage.quantity,
            included=included,
            billable=billable,
            unit_price=unit_price,
            scale=usage.row.scale,
            amount=amount,
            price_row_ids=(usage.row.id,),
            period=usage.period,
            explanation=explanation + self.note(usage.row, currency) + (f" ({holds_for})" if holds_for else ""),
            holds_for=holds_for,
            labels=usage.labels,
        )

    def note(self, row: PriceRow, currency: str) -> str:
        """How the unit price came from the row, after the sentence; nothing where it is the row's."""
        if self.multiplier == 1:
            return ""
        return f" (list price {format_exact(row.amount, currency)} × {format_quantity(self.multiplier)})"


def _span_of(reading: Reading, prices: PriceBook) -> PriceSpan:
    span = prices.span(reading.meter, model=reading.model, instant=reading.start, labels=reading.known)
    for change in (span.end, span.cut):
        if change is not None and change < reading.end and reading.is_additive:
            raise ReadingStraddlesPrice(reading, change)
    return span


def _row_period(priced: Sequence[tuple[Reading, PriceSpan]], period: Period) -> Period:
    starts = [max(span.start or period.start, period.start) for _, span in priced]
    ends = [min(span.end or period.end, period.end) for _, span in priced]
    return Period(min(starts), max(ends))
