"""Usage that a plan charges and the price book has no row for: a work list, with an estimate of the money at stake.

Which organisations to look at is one question to the series; what is unpriced is then what their running bills say.
Estimates are for putting the list in order and for filling in a form; no bill uses them. Changes nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from accounts.models import Organisation
from accounts.remembering import remembering
from billing import rating
from billing.invoicing import bill_before_credit
from billing.models import ComponentKind, Price, PriceComponent, PriceKind, Subscription
from billing.money import cost_of, exact_sum, plain
from billing.periods import Period
from billing.price_book import cost_book
from billing.published_prices import CURRENCY, find_published
from billing.published_rows import rows_of
from metering import reports
from metering.models import Meter

LOOK_BACK = timedelta(days=31)
# Bills that are computed for one page.
MOST_BILLS = 60
# How many letters a model's name must share with another's for their prices to be alike.
LEAST_ALIKE = 5
ONE_DAY = timedelta(days=1)

CANDIDATES = """
SELECT DISTINCT s.organisation_id, s.meter_id, s.model FROM series s
WHERE s.meter_id = ANY(%s) AND NOT EXISTS (
    SELECT FROM unnest(%s::bigint[], %s::text[]) AS priced(meter_id, model)
    WHERE priced.meter_id = s.meter_id AND priced.model IN (s.model, '')
) AND EXISTS (
    SELECT FROM usage_interval u
    WHERE u.organisation_id = s.organisation_id AND u.series_id = s.id AND u.starts_at >= %s
)"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `scale` units may cost, and why we think so."""

    amount: Decimal
    scale: Decimal
    basis: str


@dataclass(frozen=True, slots=True)
class Unpriced:
    """What one organisation used of one thing without a price, in its open periods."""

    organisation: Organisation
    meter: Meter
    model: str
    labels: rating.Labels
    currency: str
    quantity: Decimal
    since: datetime
    # None: nothing to go by.
    estimate: Estimate | None

    @property
    def at_stake(self) -> Decimal | None:
        return None if self.estimate is None else cost_of(self.quantity, self.estimate.amount, self.estimate.scale)


def unpriced_usage(now: datetime) -> list[Unpriced]:
    """The most at stake first, then what has no estimate, by quantity."""
    with remembering():
        found: dict[tuple[int, str, str, rating.Labels], list[rating.Reading]] = defaultdict(list)
        subscriptions: dict[int, Subscription] = {}
        for subscription in _candidates(now):
            subscriptions[subscription.pk] = subscription
            for reading in bill_before_credit(subscription, now).unpriced:
                found[subscription.pk, reading.meter, reading.model, reading.known].append(reading)
        meters = {meter.key: meter for meter in reports.all_meters()}
        estimator = _Estimator(now, meters)
        rows = [
            _row(subscriptions[pk], meters[meter], readings, estimator) for (pk, meter, *_), readings in found.items()
        ]
    return sorted(rows, key=lambda row: (row.at_stake is None, -(row.at_stake or row.quantity)))


def count_unpriced_models(now: datetime) -> int:
    """Meters and models in use lately that have no price at all, whoever uses them."""
    return len({(meter, model) for _, meter, model in _unpriced_series(now)})


def _candidates(now: datetime) -> list[Subscription]:
    organisations = {organisation for organisation, _, _ in _unpriced_series(now)}
    current = Subscription.objects.current().filter(organisation__in=organisations)
    return list(current.select_related("organisation").order_by("pk")[:MOST_BILLS])


def _unpriced_series(now: datetime) -> list[tuple[int, int, str]]:
    """(organisation, meter, model)"""
    rows: list[tuple[int, int, str]] = []
    for component, kind in ((ComponentKind.RATE_CARD, PriceKind.LIST), (ComponentKind.COST_PLUS, PriceKind.COST)):
        meters = _meters_priced_by(component)
        priced = _priced(kind, now) if meters else []
        params: list[Any] = [meters, [pk for pk, _ in priced], [model for _, model in priced], now - LOOK_BACK]
        if meters:
            with connection.cursor() as cursor:
                cursor.execute(CANDIDATES, params)
                rows += cursor.fetchall()
    return rows


def _meters_priced_by(kind: str) -> list[int]:
    named = PriceComponent.objects.filter(kind=kind, plan_version__published_at__isnull=False)
    lists = list(named.values_list("meters", flat=True).distinct())
    keys = {key for keys in lists for key in keys}
    is_open = any(not keys for keys in lists)
    return [
        meter.pk
        for meter in reports.all_meters()
        if meter.key in keys or (is_open and meter.is_additive and meter.part_of is None)
    ]


def _priced(kind: str, now: datetime) -> list[tuple[int, str]]:
    """(meter, model) with a price for everything, at any time."""
    always = Price.objects.filter(kind=kind, windows="", service_tier="", cache_ttl="", region="")
    always = always.filter(context_above=None, context_up_to=None)
    return sorted(set(always.in_force(now).values_list("meter", "model")))


def _row(
    subscription: Subscription, meter: Meter, readings: Sequence[rating.Reading], estimator: "_Estimator"
) -> Unpriced:
    one = readings[0]
    quantity = plain(exact_sum(reading.quantity for reading in readings))
    estimate = estimator.estimate(one, subscription.currency)
    since = min(reading.start for reading in readings)
    return Unpriced(
        subscription.organisation, meter, one.model, one.known, subscription.currency, quantity, since, estimate
    )


class _Estimator:
    """Looks for a price to go by: our cost, what is published, a model with a similar name."""

    def __init__(self, now: datetime, meters: dict[str, Meter]) -> None:
        self.now, self.meters = now, meters
        self.books: dict[str, rating.PriceBook] = {}
        self.listed: dict[tuple[str, str], list[Price]] = defaultdict(list)
        for price in Price.objects.filter(kind=PriceKind.LIST).in_force(now).select_related("meter"):
            if not price.holds_for and price.model:
                self.listed[price.meter.key, price.currency].append(price)

    def estimate(self, reading: rating.Reading, currency: str) -> Estimate | None:
        own = cost_book(currency, Period(self.now, self.now + ONE_DAY))
        return (
            self._by(own, reading, "what the provider charges us")
            or self._by(self._published(reading.model) if currency == CURRENCY else None, reading, "as published")
            or self._like_another(reading, currency)
        )

    def _by(self, book: rating.PriceBook | None, reading: rating.Reading, basis: str) -> Estimate | None:
        row = book and book.price(reading.meter, model=reading.model, instant=self.now, labels=reading.known)
        return Estimate(row.amount, row.scale, basis) if row else None

    def _published(self, model: str) -> rating.PriceBook:
        if model not in self.books:
            published = find_published(model, self.meters) if model else None
            rows = rows_of(published, model) if published else ()
            self.books[model] = rating.PriceBook(rows, currency=CURRENCY)
        return self.books[model]

    def _like_another(self, reading: rating.Reading, currency: str) -> Estimate | None:
        prices = self.listed[reading.meter, currency]
        price = max(prices, key=lambda price: _alike(price.model, reading.model), default=None)
        if price is None or _alike(price.model, reading.model) < LEAST_ALIKE:
            return None
        return Estimate(price.amount, price.scale, f"like {price.model}")


def _alike(one: str, other: str) -> int:
    """How many letters the names share from their beginning."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))
