"""What an organisation used in one period, rated: metering's totals, cut where prices and windows change, by `rate()`.

The one way from totals to amounts; the running bill, the invoice and the adjustments of later invoices all take it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from accounts.models import Organisation
from accounts.remembering import remembered
from billing import rating, schedules
from billing.catalogue import components_of
from billing.models import PlanVersion, Subscription
from billing.periods import Period
from billing.price_book import book_known_at, cost_book, price_book
from billing.project_names import with_project_names
from billing.schedules import PlanStretch
from billing.usage_labels import in_words_of_prices, meters_in_words
from metering import reports

# Counted up where a release rates the same usage otherwise: closed periods are then rated again and adjusted.
FORMULA = 1


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a period is rated by, but for its usage: see `terms_of`."""

    held: tuple[PlanStretch, ...]
    stretches: tuple[rating.Stretch, ...]
    components: tuple[rating.Component, ...]
    prices: rating.PriceBook
    costs: rating.PriceBook | None
    # Where readings have to be cut, and what they have to be kept apart by.
    splits: tuple[datetime, ...]
    dimensions: tuple[str, ...]


def rate_period(
    subscription: Subscription,
    period: Period,
    *,
    fees_due: bool = True,
    known_at: datetime | None = None,
    until: datetime | None = None,
    coming: Sequence[rating.Reading] = (),
) -> RatedUsage:
    """Rate a period of the subscription by the versions in force in it, each for the usage of its time.

    Fees in advance are left out: `fees` settles them. `fees_due` False leaves out all fees. A minimum commitment counts
    them either way. Prices are those of today's book, or of the book as it stood at `known_at`. With `until`, a quarter
    hour, only what was used before it is rated, and with `coming` what is expected to be used from then on: readings
    cut and kept apart as `terms_of` says.
    """
    known_at = known_at or book_known_at()
    terms = terms_of(subscription, period, known_at)
    used = Period(period.start, min(until, period.end)) if until is not None else period
    readings = read_usage(
        subscription.organisation,
        used,
        components=terms.components,
        splits=[split for split in terms.splits if split < used.end],
        dimensions=terms.dimensions,
    )
    readings += _counted(coming, terms.components)
    result = rating.rate_stretches(
        readings,
        stretches=terms.stretches,
        whole=schedules.whole_period(subscription, period.start),
        prices=terms.prices,
        costs=terms.costs,
        currency=subscription.currency,
    )
    if rating.PROJECT in terms.dimensions:
        result = with_project_names(result, subscription.organisation)
    if not fees_due:
        result = result.without(rating.FlatFee.kind)
    return RatedUsage(
        period=period,
        version=terms.held[-1].version,
        stretches=terms.held,
        readings=readings,
        prices=terms.prices,
        costs=terms.costs,
        known_at=known_at,
        rating=result,
    )


def look_up_usage(periods: Iterable[tuple[Subscription, Period, datetime | None]]) -> None:
    """Remember what `rate_period` will read for many periods, each with the `known_at` it will be asked for: one
    statement for all that are cut alike."""
    alike: dict[tuple[Period, tuple[datetime, ...], tuple[str, ...]], list[Organisation]] = defaultdict(list)
    for subscription, period, known_at in periods:
        terms = terms_of(subscription, period, known_at or book_known_at())
        alike[period, terms.splits, terms.dimensions].append(subscription.organisation)
    for (period, splits, dimensions), organisations in alike.items():
        reports.look_up_quantities(
            organisations, start=period.start, end=period.end, splits=splits, dimensions=dimensions
        )


@remembered
def terms_digest(subscription: Subscription, period: Period, known_at: datetime) -> str:
    """Names all that the period is rated by but its usage: where it is the same, the same usage comes to the same.

    Versions of plans and what the price book said at an instant never change, so that naming them is enough.
    """
    terms = [
        str(FORMULA),
        subscription.currency,
        *map(str, (period, schedules.whole_period(subscription, period.start), known_at.astimezone(UTC))),
        *(f"{one.period} {one.version.pk} {one.rest}" for one in schedules.stretches(subscription, period)),
        meters_in_words(),
    ]
    return hashlib.sha256("\n".join(terms).encode()).hexdigest()[:32]


@remembered
def terms_of(subscription: Subscription, period: Period, known_at: datetime | None) -> Terms:
    """By the price book as it stood then; None: there are no prices at all."""
    held = schedules.stretches(subscription, period)
    parts = [_rated_by(stretch) for stretch in held]
    components = tuple(component for part in parts for component in part.components)
    prices = price_book(subscription.currency, period, known_at=known_at)
    needs_costs = any(isinstance(component, rating.CostPlus) for component in components)
    costs = cost_book(subscription.currency, period, known_at=known_at) if needs_costs else None
    books = [book for book in (prices, costs) if book is not None]
    splits = {*rating.boundaries(components, books, period), *(part.period.start for part in parts[1:])}
    return Terms(
        held=tuple(held),
        stretches=tuple(parts),
        components=components,
        prices=prices,
        costs=costs,
        splits=tuple(sorted(splits)),
        dimensions=rating.labels_needed(components, books),
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
    return _counted(readings, components)


def _counted(readings: Iterable[rating.Reading], components: Sequence[rating.Component]) -> tuple[rating.Reading, ...]:
    """Without those of meters that are part of another, but where a component names them."""
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
