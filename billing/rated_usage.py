"""What an organisation used in one period, rated: metering's totals, cut where prices and windows change, by `rate()`.

The one way from totals to amounts; the running bill, the invoice and the adjustments of later invoices all take it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from accounts.models import Organisation
from billing import rating, schedules
from billing.catalogue import components_of
from billing.models import PlanVersion, Subscription
from billing.periods import Period
from billing.price_book import book_known_at, cost_book, price_book
from billing.schedules import PlanStretch
from billing.usage_labels import in_words_of_prices
from metering import reports


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedUsage:
    period: Period
    # In force at the end of the period.
    version: PlanVersion
    # The plans that held in it, in order; one, as a rule.
    stretches: tuple[PlanStretch, ...]
    readings: tuple[rating.Reading, ...]
    prices: rating.PriceBook
    costs: rating.PriceBook | None  # None: no component looks at them
    # The books are as they stood then; None: there are no prices at all.
    known_at: datetime | None
    rating: rating.Rating


def rate_period(
    subscription: Subscription,
    period: Period,
    *,
    fees_due: bool = True,
    known_at: datetime | None = None,
    until: datetime | None = None,
) -> RatedUsage:
    """Rate a period of the subscription by the versions in force in it, each for the usage of its time.

    Fees in advance are left out: `fees` settles them. `fees_due` False leaves out all fees. A minimum commitment counts
    them either way. Prices are those of today's book, or of the book as it stood at `known_at`. With `until`, a quarter
    hour, only what was used before it is rated.
    """
    known_at = known_at or book_known_at()
    held = schedules.stretches(subscription, period)
    parts = [_rated_by(stretch) for stretch in held]
    components = [component for part in parts for component in part.components]
    prices = price_book(subscription.currency, period, known_at=known_at)
    needs_costs = any(isinstance(component, rating.CostPlus) for component in components)
    costs = cost_book(subscription.currency, period, known_at=known_at) if needs_costs else None
    books = [book for book in (prices, costs) if book is not None]
    splits = rating.boundaries(components, books, period)
    splits += [part.period.start for part in parts[1:]]
    used = Period(period.start, min(until, period.end)) if until is not None else period
    readings = read_usage(
        subscription.organisation,
        used,
        components=components,
        splits=sorted(split for split in set(splits) if split < used.end),
        dimensions=rating.labels_needed(components, books),
    )
    result = rating.rate_stretches(
        readings,
        stretches=parts,
        whole=schedules.whole_period(subscription, period.start),
        prices=prices,
        costs=costs,
        currency=subscription.currency,
    )
    if not fees_due:
        result = result.without(rating.FlatFee.kind)
    return RatedUsage(
        period=period,
        version=held[-1].version,
        stretches=tuple(held),
        readings=readings,
        prices=prices,
        costs=costs,
        known_at=known_at,
        rating=result,
    )


def _rated_by(stretch: PlanStretch) -> rating.Stretch:
    version = stretch.version
    return rating.Stretch(
        period=stretch.period,
        components=tuple(components_of(version)),
        name=f"{version.plan.name}, version {version.number}",
        is_charged=stretch.is_charged,
    )


def read_usage(
    organisation: Organisation,
    period: Period,
    *,
    components: Sequence[rating.Component],
    splits: Sequence[datetime],
    dimensions: Sequence[str] = (),
    months: Sequence[Period] = (),
) -> tuple[rating.Reading, ...]:
    """The period's totals as readings, kept apart by the labels in `dimensions`; what cannot be added is one reading of
    the period, or of each of its `months`. A meter that is part of another counts only where a component names it."""
    sums = reports.quantities(
        organisation, start=period.start, end=period.end, splits=splits, dimensions=tuple(dimensions)
    )
    whole = [
        one
        for month in months or (period,)
        for one in reports.period_values(organisation, start=month.start, end=month.end)
    ]
    readings = [
        *(_reading(one, is_additive=True) for one in sums),
        *(_reading(one, is_additive=False) for one in whole),
    ]
    parts = reports.partial_meters()
    return tuple(
        reading
        for reading in readings
        if reading.meter not in parts or any(component.covers(reading) for component in components)
    )


def _reading(quantity: reports.Quantity, *, is_additive: bool) -> rating.Reading:
    return rating.Reading(
        quantity.meter_key,
        quantity.model,
        quantity.value,
        quantity.start,
        quantity.end,
        in_words_of_prices(quantity.meter_key, quantity.labels),
        is_additive,
    )
