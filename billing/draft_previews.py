"""What a plan version would have made of an organisation's last periods, against what its own plans made of them.

Both sides are rated by the formula of the bill, from the same readings and today's price book, each period with its
own fees whenever those were charged. Writes nothing; the version may be a draft.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from accounts.errors import DomainError
from accounts.remembering import remembering
from billing import rating, schedules
from billing.catalogue import components_of
from billing.models import PlanVersion, Subscription
from billing.money import ZERO, round_to_minor
from billing.periods import QUARTER_HOUR, Period
from billing.price_book import cost_book, price_book
from billing.rated_usage import read_usage

PERIODS = 3


class DraftDoesNotFit(DomainError):
    code = "draft_does_not_fit"
    sentence = "This version is in another currency, or billed at another rhythm, than the organisation's plan."


@dataclass(frozen=True, slots=True)
class LinePair:
    """A line as it was and as it would have been; zero where there is none."""

    what: str
    did_cost: Decimal
    would_cost: Decimal
    # How the amount on the version's side came about; of the other one where it has none.
    explanation: str


@dataclass(frozen=True, slots=True)
class PeriodPreview:
    period: Period
    did_cost_minor: int
    would_cost_minor: int
    lines: tuple[LinePair, ...]
    # Readings that the version would charge and that have no price, and those it would not charge.
    unpriced: tuple[rating.Reading, ...]
    uncovered: tuple[rating.Reading, ...]

    @property
    def difference_minor(self) -> int:
        return self.would_cost_minor - self.did_cost_minor


def preview_version(subscription: Subscription, version: PlanVersion, now: datetime) -> list[PeriodPreview]:
    """The last three periods that ended, newest first; fewer where there are fewer. Raises DraftDoesNotFit."""
    if (version.currency, version.cadence) != (subscription.currency, subscription.cadence):
        raise DraftDoesNotFit
    with remembering():
        subscription = schedules.with_terms(subscription)
        return [_preview(subscription, version, period) for period in _ended_periods(subscription, now)]


def _ended_periods(subscription: Subscription, now: datetime) -> list[Period]:
    first = schedules.first_period(subscription)
    period = schedules.current_period(subscription, now)
    periods = [] if period.end > now else [period]
    while len(periods) < PERIODS and period.start > first.start:
        period = schedules.period_containing(subscription, period.start - QUARTER_HOUR)
        periods.append(period)
    return periods


def _preview(subscription: Subscription, version: PlanVersion, period: Period) -> PeriodPreview:
    did = [
        rating.Stretch(
            period=stretch.period,
            components=_with_fees_of_the_period(components_of(stretch.version)),
            name=str(stretch.version),
            is_charged=stretch.is_charged,
        )
        for stretch in schedules.stretches(subscription, period)
    ]
    would = [
        replace(did[0], period=period, components=_with_fees_of_the_period(components_of(version)), is_charged=True)
    ]
    before, after = (_rated(subscription, period, stretches) for stretches in (did, would))
    currency = subscription.currency
    return PeriodPreview(
        period,
        round_to_minor(before.total_exact, currency),
        round_to_minor(after.total_exact, currency),
        _pairs(before.lines, after.lines),
        after.unpriced,
        after.uncovered,
    )


def _with_fees_of_the_period(components: Sequence[rating.Component]) -> tuple[rating.Component, ...]:
    """Fees in advance as those of the period itself."""
    return tuple(
        replace(component, in_advance=False) if isinstance(component, rating.FlatFee) else component
        for component in components
    )


def _rated(subscription: Subscription, period: Period, stretches: Sequence[rating.Stretch]) -> rating.Rating:
    components = [component for stretch in stretches for component in stretch.components]
    prices, costs = price_book(subscription.currency, period), cost_book(subscription.currency, period)
    splits = {*rating.boundaries(components, (prices, costs), period), *(one.period.start for one in stretches[1:])}
    readings = read_usage(subscription.organisation, period, components=components, splits=sorted(splits))
    return rating.rate_stretches(
        readings,
        stretches=stretches,
        whole=schedules.whole_period(subscription, period.start),
        prices=prices,
        costs=costs,
        currency=subscription.currency,
    )


def _pairs(before: Sequence[rating.Line], after: Sequence[rating.Line]) -> tuple[LinePair, ...]:
    """The lines of both sides; those that say the same beside one another."""
    did, would = _by_what(before), _by_what(after)
    return tuple(
        LinePair(
            what,
            sum((line.amount for line in did.get(what, [])), ZERO),
            sum((line.amount for line in would.get(what, [])), ZERO),
            "; ".join(line.explanation for line in would.get(what) or did[what]),
        )
        for what in dict.fromkeys([*did, *would])
    )


def _by_what(lines: Sequence[rating.Line]) -> dict[str, list[rating.Line]]:
    found: dict[str, list[rating.Line]] = {}
    for line in lines:
        found.setdefault(line.description, []).append(line)
    return found
