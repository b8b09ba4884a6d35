"""What the last months would have cost on every plan on offer, or with one model in place of another.

Rates the months that were metered, by the one formula and with the price book of their time, so that a plan compared
with itself comes to exactly its invoices (without what other periods left on them, coupons and credit). Writes nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

from accounts.errors import DomainError
from accounts.models import Organisation
from billing import rating, schedules
from billing.catalogue import components_of
from billing.models import PlanVersion, Subscription
from billing.money import EXACT, round_to_minor
from billing.periods import Cadence, Period, numbered_period, period_number, quarter_hour_floor
from billing.plan_words import PlanOffer, offer_of, offers
from billing.price_book import cost_book, price_book
from billing.rated_usage import read_usage
from billing.subscribing import current_subscription
from metering.buckets import midnight
from metering.models import Meter

MOST_MONTHS = 12
# The same text is not the same number of tokens for every model. Vocabularies in use today differ by about this much
# on English text and code; other languages can differ more.
FEWEST_TOKENS = Decimal("0.80")
MOST_TOKENS = Decimal("1.35")


class ModelNotUsed(DomainError):
    code = "model_not_used"
    sentence = "That model was not used in these months."


@dataclass(frozen=True, slots=True)
class Substitution:
    """`by` does what `model` did, with between `fewest` and `most` times as many tokens."""

    model: str
    by: str
    fewest: Decimal = FEWEST_TOKENS
    most: Decimal = MOST_TOKENS


@dataclass(frozen=True, slots=True)
class MonthCost:
    period: Period
    total_minor: int
    # Readings that the plan charges and the price book has no row for: not in the total.
    unpriced: tuple[rating.Reading, ...]


@dataclass(frozen=True, slots=True)
class Tariff:
    """What the months come to on one plan; each month is rounded once, as its invoice would be."""

    offer: PlanOffer
    is_current: bool
    months: tuple[MonthCost, ...]
    # The total at the fewest and the most tokens; both equal the total where no model takes another's place.
    least_minor: int
    most_minor: int

    @property
    def total_minor(self) -> int:
        return sum(month.total_minor for month in self.months)

    @property
    def unpriced(self) -> tuple[rating.Reading, ...]:
        return tuple(reading for month in self.months for reading in month.unpriced)


@dataclass(frozen=True, slots=True)
class Comparison:
    currency: str
    # In order; empty where no whole month has passed.
    months: tuple[Period, ...]
    substitution: Substitution | None
    # The plan in force with the models as they were: what savings are counted from. None without a plan.
    baseline: Tariff | None
    # Cheapest first.
    tariffs: tuple[Tariff, ...]
    # On offer, but in another currency or not by the month: not to be compared.
    left_out: tuple[PlanOffer, ...]
    # Models that were used in these months.
    models: tuple[str, ...]

    def saving_minor(self, tariff: Tariff) -> int | None:
        """Against the plan in force; negative where it costs more. None without one."""
        return None if self.baseline is None else self.baseline.total_minor - tariff.total_minor

    @property
    def has_usage(self) -> bool:
        return bool(self.models)


@dataclass(frozen=True, slots=True)
class UsedMonths:
    """Whole months that were metered, from the first with usage on, and what prices them."""

    months: tuple[Period, ...]
    readings: tuple[tuple[rating.Reading, ...], ...]
    prices: rating.PriceBook
    costs: rating.PriceBook
    currency: str

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(sorted({reading.model for month in self.readings for reading in month if reading.model}))


def compare_tariffs(
    organisation: Organisation, *, months: int, now: datetime, substitution: Substitution | None = None
) -> Comparison:
    """The last `months` whole months (1 to 12) on every public plan in the organisation's currency, billed monthly.

    Raises ModelNotUsed for a substitution of a model that was not used.
    """
    subscription = current_subscription(organisation, now)
    current = schedules.version_at(subscription, now) if subscription else None
    candidates = offers(organisation)
    currency = _currency(current, candidates)
    if current is not None and current not in [offer.version for offer in candidates]:
        candidates = [offer_of(current), *candidates]
    comparable = [offer for offer in candidates if _is_comparable(offer.version, currency)]
    components = {offer.version.pk: components_of(offer.version) for offer in comparable}
    everything = [component for parts in components.values() for component in parts]
    used = used_months(organisation, last_months(organisation, subscription, months, now), everything, currency)
    if substitution is not None and substitution.model not in used.models:
        raise ModelNotUsed
    variants = _variants(used.readings, substitution)
    tariffs = [
        _tariff(offer, components[offer.version.pk], used, variants, is_current=offer.version == current)
        for offer in comparable
    ]
    baseline = next((tariff for tariff in tariffs if tariff.is_current), None)
    if baseline is not None and substitution is not None:
        as_it_was = _variants(used.readings, None)
        baseline = _tariff(baseline.offer, components[baseline.offer.version.pk], used, as_it_was, is_current=True)
    return Comparison(
        currency=currency,
        months=used.months,
        substitution=substitution,
        baseline=baseline,
        tariffs=tuple(sorted(tariffs, key=lambda tariff: (tariff.total_minor, tariff.offer.plan.position))),
        left_out=tuple(offer for offer in candidates if offer not in comparable),
        models=used.models,
    )


def last_months(
    organisation: Organisation, subscription: Subscription | None, count: int, now: datetime
) -> list[Period]:
    """The last whole months, oldest first: of the subscription's schedule, or of the calendar without one."""
    if subscription is None:
        anchor, zone = quarter_hour_floor(midnight(date(2020, 1, 1), organisation.zone)), organisation.zone
    else:
        anchor, zone = subscription.anchor_at, subscription.zone
    running = period_number(anchor, instant=now, zone=zone, cadence=Cadence.MONTH)
    numbers = range(running - count, running)
    return [numbered_period(anchor, number=number, zone=zone, cadence=Cadence.MONTH) for number in numbers]


def used_months(
    organisation: Organisation, months: Sequence[Period], components: Sequence[rating.Component], currency: str
) -> UsedMonths:
    """The usage of these months, which follow one another, cut wherever one of the components could price it anew."""
    whole = Period(months[0].start, months[-1].end)
    prices, costs = price_book(currency, whole), cost_book(currency, whole)
    splits = [*rating.boundaries(components, (prices, costs), whole), *(month.start for month in months)]
    dimensions = rating.labels_needed(components, (prices, costs))
    readings = read_usage(
        organisation, whole, components=components, splits=splits, dimensions=dimensions, months=months
    )
    shares = [tuple(reading for reading in readings if month.contains(reading.start)) for month in months]
    first = next((place for place, share in enumerate(shares) if share), len(months))
    return UsedMonths(tuple(months[first:]), tuple(shares[first:]), prices, costs, currency)


def _currency(current: PlanVersion | None, candidates: Sequence[PlanOffer]) -> str:
    if current is not None:
        return current.currency
    return candidates[0].version.currency if candidates else "USD"


def _is_comparable(version: PlanVersion, currency: str) -> bool:
    return version.currency == currency and version.cadence == Cadence.MONTH


def _tariff(
    offer: PlanOffer,
    components: Sequence[rating.Component],
    used: UsedMonths,
    variants: "_Variants",
    *,
    is_current: bool,
) -> Tariff:
    months = _months(components, used, variants.same)
    total = sum(month.total_minor for month in months)
    if variants.same is variants.fewest:
        return Tariff(offer, is_current, months, total, total)
    bounds = [
        sum(month.total_minor for month in _months(components, used, readings))
        for readings in (variants.fewest, variants.most)
    ]
    return Tariff(offer, is_current, months, min(total, *bounds), max(total, *bounds))


def _months(components: Sequence[rating.Component], used: UsedMonths, readings: "_Readings") -> tuple[MonthCost, ...]:
    return tuple(_month(components, used, period, month) for period, month in zip(used.months, readings, strict=True))


def _month(
    components: Sequence[rating.Component], used: UsedMonths, period: Period, readings: Sequence[rating.Reading]
) -> MonthCost:
    """A month by itself: its usage and its own fees, whenever those would be charged."""
    rated = rating.rate(
        readings,
        components=components,
        prices=used.prices,
        costs=used.costs,
        period=period,
        fee_period=period,
        currency=used.currency,
    )
    return MonthCost(period, round_to_minor(rated.total_exact, used.currency), rated.unpriced)


type _Readings = Sequence[Sequence[rating.Reading]]


@dataclass(frozen=True, slots=True)
class _Variants:
    """The months' readings with as many tokens as there were, and with the fewest and the most there could be."""

    same: _Readings
    fewest: _Readings
    most: _Readings


def _variants(months: _Readings, substitution: Substitution | None) -> _Variants:
    if substitution is None:
        return _Variants(months, months, months)
    tokens = frozenset(Meter.objects.filter(unit="tokens").values_list("key", flat=True))
    factors = (Decimal(1), substitution.fewest, substitution.most)
    same, fewest, most = (_replaced(months, substitution, tokens, factor) for factor in factors)
    return _Variants(same, fewest, most)


def _replaced(months: _Readings, substitution: Substitution, tokens: Collection[str], factor: Decimal) -> _Readings:
    """The readings with the other model; the factor is on its tokens alone, since requests stay requests."""

    def replaced(reading: rating.Reading) -> rating.Reading:
        if reading.model != substitution.model:
            return reading
        quantity = EXACT.multiply(reading.quantity, factor) if reading.meter in tokens else reading.quantity
        return replace(reading, model=substitution.by, quantity=quantity)

    return [[replaced(reading) for reading in month] for month in months]
