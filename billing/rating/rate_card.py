"""A rate card: every reading at the price book's row for its meter and model, times the plan's multiplier."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from billing.money import EXACT, ZERO, cost_of, exact_sum, format_exact, format_quantity, plain, require_not_negative
from billing.periods import Period
from billing.rating.component import Component, Priced, Terms, apply_allowance
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
    """All usage of one meter and model under one price row."""

    meter: str
    model: str
    row: PriceRow
    quantity: Decimal
    period: Period  # from the first to the last instant the row held, within the period billed

    @property
    def windows(self) -> str:
        """Empty where the row holds at any time, so that it comes before those that hold at some."""
        return str(self.row.windows or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard(Component):
    """A meter's allowance covers usage in the order in which its prices took effect in the period, then by model name;
    so it does not depend on how finely the usage is cut."""

    kind: ClassVar[str] = "rate_card"

    meters: tuple[str, ...] = ()  # empty: every meter
    included: Mapping[str, Decimal] = field(default_factory=dict)  # meter -> units per period, over all its models
    multiplier: Decimal = Decimal(1)  # on every price of the book: 0.9 is ten percent off

    def __post_init__(self) -> None:
        require_not_negative(self.multiplier, "multiplier")
        for allowance in self.included.values():
            require_not_negative(allowance, "included allowance")

    def covers(self, reading: Reading) -> bool:
        return (not self.meters or reading.meter in self.meters) and self.is_open_for(reading)

    def book(self, terms: Terms) -> PriceBook:
        return terms.prices

    def unit_price(self, row: PriceRow) -> Decimal:
        """What the row's scale of units costs."""
        return plain(EXACT.multiply(row.amount, self.multiplier))

    def price(self, readings: Sequence[Reading], terms: Terms) -> Priced:
        unpriced: list[Reading] = []
        by_row: dict[tuple[str, str, PriceRow], list[tuple[Reading, PriceSpan]]] = defaultdict(list)
        for reading in readings:
            span = _span_of(reading, self.book(terms))
            if span.row is None:
                unpriced.append(reading)
            else:
                by_row[reading.meter, reading.model, span.row].append((reading, span))
        usages = [
            _RowUsage(meter, model, row, quantity, _row_period(priced, terms.period))
            for (meter, model, row), priced in by_row.items()
            if (quantity := plain(exact_sum(reading.quantity for reading, _ in priced)))
        ]
        included = self._included(usages)
        lines = [
            self._line(usage, included[usage], terms.currency) for usage in sorted(usages, key=self._place_on_bill)
        ]
        return Priced(tuple(lines), tuple(unpriced))

    def _included(self, usages: Iterable[_RowUsage]) -> dict[_RowUsage, Decimal]:
        left = dict(self.included)
        included = {}
        for usage in sorted(usages, key=lambda usage: (usage.period.start, usage.model, usage.windows, usage.row.id)):
            allowance = left.get(usage.meter, ZERO)
            included[usage], _ = apply_allowance(usage.quantity, allowance)
            left[usage.meter] = EXACT.subtract(allowance, included[usage])
        return included

    def _place_on_bill(self, usage: _RowUsage) -> tuple[str, int, str, datetime, str, str]:
        meter_place = self.meters.index(usage.meter) if self.meters else 0
        return usage.model, meter_place, usage.meter, usage.period.start, usage.windows, usage.row.id

    def _line(self, usage: _RowUsage, included: Decimal, currency: str) -> Line:
        billable = plain(EXACT.subtract(usage.quantity, included))
        unit_price = self.unit_price(usage.row)
        amount = cost_of(billable, unit_price, usage.row.scale)
        noun = meter_noun(usage.meter)
        what = f"{usage.model}, {noun}" if usage.model else noun[:1].upper() + noun[1:]
        windows = usage.row.windows
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
            key=f"{self.id}:{usage.meter}:{usage.model}:{usage.row.id}",
            component_id=self.id,
            kind=self.kind,
            meter=usage.meter,
            model=usage.model,
            description=what + (f", {windows}" if windows else ""),
            quantity=usage.quantity,
            included=included,
            billable=billable,
            unit_price=unit_price,
            scale=usage.row.scale,
            amount=amount,
            price_row_ids=(usage.row.id,),
            period=usage.period,
            explanation=explanation + self.note(usage.row, currency) + (f" ({windows})" if windows else ""),
        )

    def note(self, row: PriceRow, currency: str) -> str:
        """How the unit price came from the row, after the sentence; nothing where it is the row's."""
        if self.multiplier == 1:
            return ""
        return f" (list price {format_exact(row.amount, currency)} × {format_quantity(self.multiplier)})"


def _span_of(reading: Reading, prices: PriceBook) -> PriceSpan:
    span = prices.span(reading.meter, model=reading.model, instant=reading.start)
    for change in (span.end, span.cut):
        if change is not None and change < reading.end:
            raise ReadingStraddlesPrice(reading, change)
    return span


def _row_period(priced: Sequence[tuple[Reading, PriceSpan]], period: Period) -> Period:
    starts = [max(span.start or period.start, period.start) for _, span in priced]
    ends = [min(span.end or period.end, period.end) for _, span in priced]
    return Period(min(starts), max(ends))
