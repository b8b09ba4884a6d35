"""The pure function itself: hands every reading to the first component that covers it and gathers the lines."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from billing.money import currency_named, exact_sum, plain
from billing.periods import Period
from billing.rating.bounds import Bound, Charge, level, require_known
from billing.rating.component import Component, Priced, Terms
from billing.rating.labels import Labels
from billing.rating.lines import Rating
from billing.rating.price_book import PriceBook
from billing.rating.readings import Reading, ReadingOutsidePeriod


class DuplicateComponent(ValueError):
    code = "duplicate_component"

    def __init__(self) -> None:
        super().__init__("Two components of a plan share one id.")


class PriceBookCurrencyDiffers(ValueError):
    code = "price_book_currency_differs"

    def __init__(self, prices: PriceBook, currency: str) -> None:
        super().__init__(f"A price book in {prices.currency} cannot price a bill in {currency}.")


def rate(
    readings: Iterable[Reading],
    *,
    components: Sequence[Component],
    prices: PriceBook,
    costs: PriceBook | None = None,
    period: Period,
    fee_period: Period | None,
    currency: str,
) -> Rating:
    """The exact lines for the readings of one period, in the order of the components; then caps, then minimums.

    `prices` are the customers', `costs` the provider's; only cost-plus components look at the latter. `fee_period` is
    what flat fees in advance are charged for, as a rule the period after this one; None when none follows, and then no
    such fee is charged. A period still running is rated as if nothing more came: whether its minimums are owed yet is
    the caller's to say. Raises ReadingOutsidePeriod, ReadingStraddlesPrice, ReadingStraddlesWindow,
    DuplicateComponent, UnknownComponent, MeterCurrencyDiffers, PriceBookCurrencyDiffers and UnknownCurrency.
    """
    currency_named(currency)
    costs = PriceBook((), currency=currency) if costs is None else costs
    for book in (prices, costs):
        if book.currency != currency:
            raise PriceBookCurrencyDiffers(book, currency)
    if len({component.id for component in components}) < len(components):
        raise DuplicateComponent
    require_known(components)
    terms = Terms(period, fee_period, currency, prices, costs)
    shares, uncovered = _distribute(readings, components, period)
    priced = [_price(component, share, terms) for component, share in zip(components, shares, strict=True)]
    charges = _charges(components, priced)
    lines = (*(line for part in priced for line in part.lines), *level(components, charges, terms))
    return Rating(
        lines=lines,
        unpriced=_ordered(reading for part in priced for reading in part.unpriced),
        uncovered=_ordered(uncovered),
        currency=currency,
        total_exact=plain(exact_sum(line.amount for line in lines)),
    )


def _price(component: Component, readings: Sequence[Reading], terms: Terms) -> Priced:
    """What the component makes of its readings; where it has windows, its lines say so."""
    priced = component.price(readings, terms)
    if component.windows is None:
        return priced
    lines = tuple(
        msgspec.structs.replace(line, explanation=f"{component.windows}: {line.explanation}") for line in priced.lines
    )
    return replace(priced, lines=lines)


def boundaries(components: Sequence[Component], books: Iterable[PriceBook], period: Period) -> list[datetime]:
    """The instants strictly inside the period at which a price or a window changes: where to cut readings."""
    changes = {at for book in books for at in book.boundaries(period)}
    for windows in {component.windows for component in components if component.windows is not None}:
        changes.update(windows.boundaries(period))
    return sorted(changes)


def labels_needed(components: Sequence[Component], books: Iterable[PriceBook]) -> tuple[str, ...]:
    """The labels that a price or a component looks at: what readings have to be kept apart by, and by nothing else."""
    named = {name for component in components for name in component.labels_needed()}
    return tuple(sorted(named.union(*(book.labels for book in books))))


def _charges(components: Sequence[Component], priced: Sequence[Priced]) -> dict[str, Charge]:
    return {
        component.id: Charge(component.label, component.charged(part.lines))
        for component, part in zip(components, priced, strict=True)
        if not isinstance(component, Bound)
    }


def _distribute(
    readings: Iterable[Reading], components: Sequence[Component], period: Period
) -> tuple[list[list[Reading]], list[Reading]]:
    shares: list[list[Reading]] = [[] for _ in components]
    uncovered: list[Reading] = []
    is_steady = all(component.windows is None for component in components)
    takers: dict[tuple[str, str, Labels, bool], list[Reading]] = {}  # who covers one reading covers all alike
    for reading in readings:
        if reading.start < period.start or reading.end > period.end:
            raise ReadingOutsidePeriod(reading, period)
        if not reading.quantity:
            continue
        alike = reading.meter, reading.model, reading.known, reading.is_additive
        taker = takers.get(alike) if is_steady else None
        if taker is None:
            covering = (share for component, share in zip(components, shares, strict=True) if component.covers(reading))
            taker = takers[alike] = next(covering, uncovered)
        taker.append(reading)
    return shares, uncovered


def _ordered(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    return tuple(sorted(readings, key=lambda reading: (reading.place, reading.quantity)))
