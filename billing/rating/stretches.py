"""A period under several plans: rated stretch by stretch, as one period.

What is fixed per period (fees, allowances, commitments, caps) counts for each plan by the time it held. Usage is priced
by the plan in force when it happened. Nothing starts afresh with a plan: an allowance not yet used carries on, tiers
and started packages count on, and a commitment is met by the charges of all plans that had it. So a change to a plan of
the same terms changes nothing. Pure, like `rate()`, which prices each stretch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from billing.money import exact_sum, plain
from billing.periods import Period
from billing.rating.carrying_on import Counted, components_for, usage_of
from billing.rating.component import Terms
from billing.rating.engine import rate
from billing.rating.lines import Rating
from billing.rating.pooling import levelled
from billing.rating.price_book import PriceBook
from billing.rating.readings import Reading, ReadingOutsidePeriod
from billing.rating.stretch import Stretch


def rate_stretches(
    readings: Iterable[Reading],
    *,
    stretches: Sequence[Stretch],
    whole: Period,
    prices: PriceBook,
    costs: PriceBook | None,
    currency: str,
) -> Rating:
    """The exact lines of the stretches, in order; then the caps and minimums of all of them together.

    `whole` is the period that fees and allowances are for; a last stretch that ends before it was cut off. Readings are
    cut where stretches begin; a total that cannot be cut belongs to the last charged stretch that it reaches. What was
    used where nothing is charged is uncovered. Fees in advance are left to the caller. Raises what `rate` raises.
    """
    only = stretches[0]
    if len(stretches) == 1 and only.is_charged and only.period == whole:
        return rate(
            readings,
            components=only.components,
            prices=prices,
            costs=costs,
            period=whole,
            fee_period=None,
            currency=currency,
        )
    by_stretch = _by_stretch(readings, stretches)
    usage = usage_of(stretches, by_stretch, whole)
    counted = Counted()
    ratings, parts = [], []
    for place, stretch in enumerate(stretches):
        components, notes = (
            components_for(place, stretch, usage=usage, counted=counted, whole=whole, currency=currency)
            if stretch.is_charged
            else ([], {})
        )
        parts.append(components)
        rated = rate(
            by_stretch[place],
            components=components,
            prices=prices,
            costs=costs,
            period=stretch.period,
            fee_period=None,
            currency=currency,
        )
        ratings.append(_named(rated, stretch, whole=whole, notes=notes))
    lines = [line for rated in ratings for line in rated.lines]
    terms = Terms(whole, None, currency, prices, prices)
    lines += levelled(stretches, parts, ratings, terms)
    return Rating(
        lines=tuple(lines),
        unpriced=tuple(reading for rated in ratings for reading in rated.unpriced),
        uncovered=tuple(reading for rated in ratings for reading in rated.uncovered),
        currency=currency,
        total_exact=plain(exact_sum(line.amount for line in lines)),
    )


def _by_stretch(readings: Iterable[Reading], stretches: Sequence[Stretch]) -> list[list[Reading]]:
    shares: list[list[Reading]] = [[] for _ in stretches]
    for reading in readings:
        reached = [
            place
            for place, stretch in enumerate(stretches)
            if reading.start < stretch.period.end and stretch.period.start < reading.end
        ]
        if not reached:
            raise ReadingOutsidePeriod(reading, Period(stretches[0].period.start, stretches[-1].period.end))
        place = next((place for place in reversed(reached) if stretches[place].is_charged), reached[-1])
        within = stretches[place].period
        clipped = replace(reading, start=max(reading.start, within.start), end=min(reading.end, within.end))
        shares[place].append(clipped)
    return shares


def _named(rated: Rating, stretch: Stretch, *, whole: Period, notes: Mapping[str, str]) -> Rating:
    """Lines that say whose they are, with keys of their own."""
    lines = tuple(
        msgspec.structs.replace(
            line,
            key=stretch.prefix(whole) + line.key,
            explanation=f"{stretch.name}: {line.explanation}{notes.get(line.component_id, '')}",
        )
        for line in rated.lines
    )
    return replace(rated, lines=lines)
