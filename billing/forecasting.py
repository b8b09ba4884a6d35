"""Where the running bill is heading, with how sure that is and how wrong the method was before.

Use so far stands; what is to come follows from the organisation's own week (`usage_profile`) and is rated by the same
formula as the bill, so that allowances, tiers, caps and prices to come are respected. Nothing here is ever charged.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from accounts.models import Organisation
from billing import invoicing, rating, schedules
from billing.catalogue import components_of
from billing.models import Forecast, PlanVersion, Subscription
from billing.money import EXACT, QUOTIENT, round_to_minor
from billing.periods import QUARTER_HOUR, Period, quarter_hour_floor
from billing.price_book import cost_book, price_book
from billing.rated_usage import read_usage
from billing.usage_profile import Expectation, Key, expect, profile_of
from metering import reports
from metering.buckets import Granularity, bucket_starts, midnight
from metering.models import Meter

# How far back use is looked at.
HISTORY = timedelta(weeks=8)
# How far back the curve of the week is read.
CURVE = timedelta(weeks=4)
# Less than this says nothing about a week.
LEAST_HISTORY = timedelta(days=3)
STALE_AFTER = timedelta(hours=1)
TRIALS_STALE_AFTER = timedelta(hours=20)
MOST_AT_ONCE = 200
# Periods that ended, and the shares of them after which a forecast is tried.
TRIED_PERIODS = 3
TRIED_SHARES = (Decimal("0.25"), Decimal("0.5"), Decimal("0.75"))


@dataclass(frozen=True, slots=True)
class Outlook:
    """In minor units; eight of ten outcomes should lie between low and high."""

    total_minor: int
    low_minor: int
    high_minor: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A forecast of a period that has ended, made from what was known at `at`, and what came. Usage only, no fees."""

    at: datetime
    period: Period
    outlook: Outlook
    actual_minor: int

    @property
    def is_covered(self) -> bool:
        return self.outlook.low_minor <= self.actual_minor <= self.outlook.high_minor

    @property
    def error_percent(self) -> Decimal | None:
        """How far off, in percent of what came; None where nothing came."""
        if not self.actual_minor:
            return None
        miss = Decimal(abs(self.outlook.total_minor - self.actual_minor))
        return QUOTIENT.divide(miss * 100, Decimal(abs(self.actual_minor))).quantize(Decimal("0.1"))


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a period is rated by."""

    period: Period
    components: Sequence[rating.Component]
    prices: rating.PriceBook
    costs: rating.PriceBook
    currency: str

    @property
    def splits(self) -> list[datetime]:
        return rating.boundaries(self.components, (self.prices, self.costs), self.period)

    def usage_exact(self, readings: Sequence[rating.Reading], *, has_ended: bool) -> Decimal:
        rated = rating.rate(
            readings,
            components=self.components,
            prices=self.prices,
            costs=self.costs,
            period=self.period,
            fee_period=None,
            currency=self.currency,
        )
        left_out = [rating.FlatFee.kind] if has_ended else [rating.FlatFee.kind, rating.Minimum.kind]
        return rated.without(*left_out).total_exact


def make_forecasts(now: datetime, *, limit: int = MOST_AT_ONCE) -> int:
    """Make those anew that are older than an hour, or missing; the longest waiting first. Answers how many."""
    fresh = Forecast.objects.filter(made_at__gt=now - STALE_AFTER, period_end__gt=now)
    waiting = Subscription.objects.current().exclude(forecasts__in=fresh).order_by("pk")[:limit]
    rows = list(waiting.select_related("organisation"))
    for subscription in rows:
        make_forecast(subscription, now)
    return len(rows)


def make_forecast(subscription: Subscription, now: datetime) -> Forecast:
    """The forecast of the running period, stored; once a day the method is tried on periods that ended as well."""
    subscription = schedules.with_terms(subscription)
    period = schedules.current_period(subscription, now)
    outlook = forecast(subscription, period, now)
    known = latest_made(subscription)
    values: dict[str, Any] = {
        "organisation": subscription.organisation,
        "period_end": period.end,
        "made_at": now,
        "currency": subscription.currency,
        "total_minor": outlook and outlook.total_minor,
        "low_minor": outlook and outlook.low_minor,
        "high_minor": outlook and outlook.high_minor,
        "tested_at": known and known.tested_at,
        "trials": known.trials if known else [],
    }
    if known is None or known.tested_at is None or known.tested_at < now - TRIALS_STALE_AFTER:
        values |= {"tested_at": now, "trials": [_trial_row(trial) for trial in back_test(subscription, now)]}
    row, _ = Forecast.objects.update_or_create(subscription=subscription, period_start=period.start, defaults=values)
    return row


def latest_made(subscription: Subscription) -> Forecast | None:
    """The newest row, of whatever period and whether or not it could say anything."""
    return Forecast.objects.filter(subscription=subscription).first()


def latest_forecast(subscription: Subscription, period: Period) -> Forecast | None:
    """The one last made of the period, if there was enough to go by."""
    rows = Forecast.objects.filter(subscription=subscription, period_start=period.start)
    return rows.exclude(total_minor=None).first()


def forecast(subscription: Subscription, period: Period, now: datetime) -> Outlook | None:
    """The bill of the running period as it will probably be, before credit; None where there is too little to go by."""
    terms = _terms(subscription, schedules.version_at(subscription, now), period)
    so_far, expectation = _so_far_and_expected(subscription.organisation, terms, now)
    if expectation is None:
        return None
    bill = invoicing.bill_before_credit(subscription, now, period=period)
    charged = terms.usage_exact(so_far, has_ended=False)
    base = EXACT.subtract(bill.total_exact, charged)
    return _outlook(terms, so_far, expectation, base)


def back_test(subscription: Subscription, now: datetime) -> list[Trial]:
    """The same method at a quarter, half and three quarters of the last periods that ended, against what came."""
    trials = []
    for period in _ended_periods(subscription, now):
        terms = _terms(subscription, schedules.version_at(subscription, period.start), period)
        everything = read_usage(subscription.organisation, period, components=terms.components, splits=terms.splits)
        actual = round_to_minor(terms.usage_exact(everything, has_ended=True), terms.currency)
        for share in TRIED_SHARES:
            at = quarter_hour_floor(period.start + (period.end - period.start) * float(share))
            so_far, expectation = _so_far_and_expected(subscription.organisation, terms, at)
            if expectation is not None:
                trials.append(Trial(at, period, _outlook(terms, so_far, expectation, Decimal(0)), actual))
    return trials


def _outlook(terms: _Terms, so_far: Sequence[rating.Reading], expectation: Expectation, base: Decimal) -> Outlook:
    low, middle, high = (
        round_to_minor(
            EXACT.add(base, terms.usage_exact([*so_far, *_readings(expectation, factor)], has_ended=True)),
            terms.currency,
        )
        for factor in (max(Decimal(0), 1 - expectation.spread), Decimal(1), 1 + expectation.spread)
    )
    return Outlook(middle, min(low, middle), max(high, middle))


def _readings(expectation: Expectation, factor: Decimal) -> list[rating.Reading]:
    """In whole units: an expectation has no use for fractions of a token."""
    return [
        rating.Reading(meter, model, (units * factor).to_integral_value(), stretch.start, stretch.end)
        for ((meter, model), stretch), units in expectation.units.items()
    ]


def _terms(subscription: Subscription, version: PlanVersion, period: Period) -> _Terms:
    currency = subscription.currency
    return _Terms(period, components_of(version), price_book(currency, period), cost_book(currency, period), currency)


def _so_far_and_expected(
    organisation: Organisation, terms: _Terms, now: datetime
) -> tuple[Sequence[rating.Reading], Expectation | None]:
    """Readings up to the last quarter hour, and what the rest of the period should bring."""
    cut = quarter_hour_floor(now)
    if not terms.period.start < cut < terms.period.end:
        return (), None
    splits = [*terms.splits, cut]
    everything = read_usage(organisation, terms.period, components=terms.components, splits=splits)
    so_far = [reading for reading in everything if reading.end <= cut]
    return so_far, _expected(organisation, terms, cut)


def _expected(organisation: Organisation, terms: _Terms, cut: datetime) -> Expectation | None:
    zone = organisation.zone
    history = Period(midnight((cut - HISTORY).astimezone(zone).date(), zone), cut)
    seen, days = _history(organisation, history)
    if seen is None or seen.end - seen.start < LEAST_HISTORY:
        return None
    week = Period(max(seen.start, cut - CURVE), cut)
    profile = profile_of(_hours(organisation, week), seen=week, zone=zone)
    rest = Period(cut, terms.period.end).split_at(terms.splits)
    return expect(days, profile=profile, stretches=rest, now=cut)


def _history(organisation: Organisation, span: Period) -> tuple[Period | None, dict[Period, dict[Key, Decimal]]]:
    """Use by day and key, from the first day with any on; the last day ends at the span's end."""
    today = midnight(span.end.astimezone(organisation.zone).date(), organisation.zone)
    rows = [row for part in span.split_at([today]) for row in _rows(organisation, part, "day", ("meter", "model"))]
    if not rows:
        return None, {}
    seen = Period(rows[0].start, span.end)
    starts = [*bucket_starts(seen.start, seen.end, "day", organisation.zone), seen.end]
    days: dict[Period, dict[Key, Decimal]] = {Period(start, end): {} for start, end in pairwise(starts)}
    by_start = {day.start: units for day, units in days.items()}
    for row in rows:
        meter, model = row.group
        by_start[row.start][meter, model] = row.value
    return seen, days


def _hours(organisation: Organisation, seen: Period) -> list[tuple[datetime, Decimal]]:
    """Use by hour, all meters together, each counting for as much as any other."""
    rows = _rows(organisation, seen, "hour", ("meter",))
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        totals[row.group[0]] += row.value
    return [(row.start, QUOTIENT.divide(row.value, total)) for row in rows if (total := totals[row.group[0]])]


def _rows(
    organisation: Organisation, span: Period, granularity: Granularity, group_by: tuple[str, ...]
) -> tuple[reports.UsageRow, ...]:
    """Use of the meters whose totals may be added up."""
    keys = tuple(meter.key for meter in Meter.objects.all() if meter.is_additive)
    filters = reports.UsageFilter(meters=keys)
    report = reports.usage(
        organisation, start=span.start, end=span.end, granularity=granularity, group_by=group_by, filters=filters
    )
    return report.rows


def _ended_periods(subscription: Subscription, now: datetime) -> list[Period]:
    """The last that have ended, newest first."""
    period, first = schedules.current_period(subscription, now), schedules.first_period(subscription)
    periods: list[Period] = []
    while len(periods) < TRIED_PERIODS and period.start > first.start:
        period = schedules.period_containing(subscription, period.start - QUARTER_HOUR)
        periods.append(period)
    return periods


def trials_of(row: Forecast) -> list[Trial]:
    return [
        Trial(
            datetime.fromisoformat(trial["at"]),
            Period(datetime.fromisoformat(trial["period_start"]), datetime.fromisoformat(trial["period_end"])),
            Outlook(trial["forecast_minor"], trial["low_minor"], trial["high_minor"]),
            trial["actual_minor"],
        )
        for trial in row.trials
    ]


def typical_error(trials: Sequence[Trial]) -> Decimal | None:
    """The median of how far off the trials were, in percent; None without any."""
    errors = sorted(error for trial in trials if (error := trial.error_percent) is not None)
    return errors[len(errors) // 2] if errors else None


def _trial_row(trial: Trial) -> dict[str, Any]:
    return {
        "at": trial.at.isoformat(),
        "period_start": trial.period.start.isoformat(),
        "period_end": trial.period.end.isoformat(),
        "forecast_minor": trial.outlook.total_minor,
        "low_minor": trial.outlook.low_minor,
        "high_minor": trial.outlook.high_minor,
        "actual_minor": trial.actual_minor,
    }
