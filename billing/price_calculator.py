"""What a month of calls would cost on every public plan: the formula of the bill on usage that somebody imagines.

The calls are spread evenly over the coming month, so that prices by the hour and price changes to come are in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from billing import rating
from billing.catalogue import components_of
from billing.money import EXACT, QUOTIENT, apportion, exact_sum
from billing.periods import Cadence, Period, quarter_hour_floor
from billing.plan_words import PlanOffer, offers
from billing.price_book import cost_book, price_book

MONTH = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Calls:
    """A month of them: how many, and what each holds on average, in tokens."""

    model: str
    count: int
    prompt_tokens: int
    # Of the prompt, how much is read from the cache, in percent.
    cached_percent: int
    answer_tokens: int

    @property
    def units(self) -> dict[str, Decimal]:
        """By meter, in whole units."""
        prompt = Decimal(self.count * self.prompt_tokens)
        cached = QUOTIENT.divide(prompt * self.cached_percent, Decimal(100)).to_integral_value()
        return {
            "input_tokens": EXACT.subtract(prompt, cached),
            "cache_read_tokens": cached,
            "output_tokens": Decimal(self.count * self.answer_tokens),
            "requests": Decimal(self.count),
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    offer: PlanOffer
    total_minor: int
    # What it is made of: description and share of the total, for what is not zero.
    parts: tuple[tuple[str, int], ...]
    # Meters that the plan charges and has no price for.
    unpriced: tuple[str, ...]


def estimates(calls: Calls, now: datetime) -> list[Estimate]:
    """A month on every public plan billed by the month; cheapest first within each currency, what lacks prices last."""
    period = Period(quarter_hour_floor(now), quarter_hour_floor(now) + MONTH)
    found = [_estimate(offer, calls, period) for offer in offers() if offer.version.cadence == Cadence.MONTH]
    return sorted(found, key=lambda one: (one.offer.version.currency, bool(one.unpriced), one.total_minor))


def _estimate(offer: PlanOffer, calls: Calls, period: Period) -> Estimate:
    currency = offer.version.currency
    components = components_of(offer.version)
    prices, costs = price_book(currency, period), cost_book(currency, period)
    splits = rating.boundaries(components, (prices, costs), period)
    rated = rating.rate(
        _readings(calls, period.split_at(splits), period),
        components=components,
        prices=prices,
        costs=costs,
        period=period,
        fee_period=period,
        currency=currency,
    )
    total, shares = apportion([line.amount for line in rated.lines], currency)
    parts = tuple((line.description, share) for line, share in zip(rated.lines, shares, strict=True) if share)
    return Estimate(offer, total, parts, tuple(sorted({reading.meter for reading in rated.unpriced})))


def _readings(calls: Calls, stretches: Sequence[Period], period: Period) -> list[rating.Reading]:
    """Each stretch has its part of the month; the last has what rounding left, so that nothing is lost."""
    readings = []
    for meter, units in calls.units.items():
        left = units
        for stretch in stretches[:-1]:
            share = Decimal((stretch.end - stretch.start) // timedelta(minutes=1))
            part = QUOTIENT.divide(units * share, Decimal(MONTH // timedelta(minutes=1))).to_integral_value()
            readings.append(rating.Reading(meter, calls.model, part, stretch.start, stretch.end))
            left = exact_sum((left, -part))
        readings.append(rating.Reading(meter, calls.model, left, stretches[-1].start, period.end))
    return readings
