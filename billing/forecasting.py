"""Where the running bill is heading, with how sure that is and how wrong the method was before.

Use so far stands; what is to come follows from the organisation's own week (`usage_profile`). The forecast is the bill
that is made of both, so that plans and prices to come, allowances, tiers, caps, trials, pauses and coupons are in it.
Nothing here is ever charged.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from accounts.models import Organisation
from accounts.remembering import remembering
from billing import rating, schedules
from billing.models import Forecast, Subscription
from billing.money import QUOTIENT, round_to_minor
from billing.open_bills import OpenPeriod
from billing.periods import QUARTER_HOUR, Period, quarter_hour_floor
from billing.price_book import book_known_at
from billing.rated_usage import RatedUsage, rate_period, terms_of
from billing.usage_labels import in_words_of_prices
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
    """The bill of an open period as it will probably be, before credit; None where there is too little to go by. Of one
    that has ended it is the bill."""
    with remembering():
        running, cut = OpenPeriod(schedules.with_terms(subscription), period), quarter_hour_floor(now)
        if cut >= period.end:
            total = running.bill_at(now).total_minor
            return Outlook(total, total, total)
        expectation = _expected(running.subscription, period, cut)
        if expectation is None:
            return None
        return _outlook(expectation, lambda coming: running.bill_at(period.end, until=cut, coming=coming).total_minor)


def back_test(subscription: Subscription, now: datetime) -> list[Trial]:
    """The same method at a quarter, half and three quarters of the last periods that ended, against what came."""
    trials: list[Trial] = []
    with remembering():
        subscription = schedules.with_terms(subscription)
        for period in _ended_periods(subscription, now):
            usage = _UsageOf(subscription, period)
            for share in TRIED_SHARES:
                at = quarter_hour_floor(period.start + (period.end - period.start) * float(share))
                expectation = _expected(subscription, period, at)
                if expectation is not None:
                    trials.append(Trial(at, period, _outlook(expectation, usage.until(at)), usage.actual_minor))
    return trials


@dataclass(frozen=True, slots=True)
class _UsageOf:
    """What the usage of a period comes to, without fees, in minor units."""

    subscription: Subscription
    period: Period

    @property
    def actual_minor(self) -> int:
        return self._minor(rate_period(self.subscription, self.period, fees_due=False))

    def until(self, at: datetime) -> "Rated":
        """The same, of what was used until then and what is expected to come."""
        return lambda coming: self._minor(
            rate_period(self.subscription, self.period, fees_due=False, until=at, coming=coming)
        )

    def _minor(self, rated: RatedUsage) -> int:
        return round_to_minor(rated.rating.total_exact, self.subscription.currency)


# What a period comes to if these readings are to come, in minor units.
type Rated = Callable[[Sequence[rating.Reading]], int]


@dataclass(frozen=True, slots=True)
class _Expected:
    usage: Expectation
    # What keys have after meter and model.
    dimensions: tuple[str, ...]

    def readings(self, factor: Decimal) -> list[rating.Reading]:
        """In whole units: an expectation has no use for fractions of a token."""
        return [
            self._reading(key, stretch, (units * factor).to_integral_value())
            for (key, stretch), units in self.usage.units.items()
        ]

    def _reading(self, key: Key, stretch: Period, units: Decimal) -> rating.Reading:
        meter, model, *values = key
        labels = {name: value for name, value in zip(self.dimensions, values, strict=True) if value}
        return rating.Reading(meter, model, units, stretch.start, stretch.end, in_words_of_prices(meter, labels))


def _outlook(expected: _Expected, rated: Rated) -> Outlook:
    spread = expected.usage.spread
    factors = max(Decimal(0), 1 - spread), Decimal(1), 1 + spread
    low, middle, high = (rated(expected.readings(factor)) for factor in factors)
    return Outlook(middle, min(low, middle), max(high, middle))


def _expected(subscription: Subscription, period: Period, cut: datetime) -> _Expected | None:
    """What the rest of the period should bring, cut and kept apart as its bill wants it; None where too little is
    known."""
    organisation, terms = subscription.organisation, terms_of(subscription, period, book_known_at())
    if not period.start < cut < period.end:
        return None
    zone = organisation.zone
    history = Period(midnight((cut - HISTORY).astimezone(zone).date(), zone), cut)
    seen, days = _history(organisation, history, terms.dimensions)
    if seen is None or seen.end - seen.start < LEAST_HISTORY:
        return None
    week = Period(max(seen.start, cut - CURVE), cut)
    profile = profile_of(_hours(organisation, week), seen=week, zone=zone)
    rest = Period(cut, period.end).split_at(terms.splits)
    return _Expected(expect(days, profile=profile, stretches=rest, now=cut), terms.dimensions)


def _history(
    organisation: Organisation, span: Period, dimensions: tuple[str, ...]
) -> tuple[Period | None, dict[Period, dict[Key, Decimal]]]:
    """Use by day and key, from the first day with any on; the last day ends at the span's end."""
    today = midnight(span.end.astimezone(organisation.zone).date(), organisation.zone)
    groups = ("meter", "model", *dimensions)
    rows = [row for part in span.split_at([today]) for row in _rows(organisation, part, "day", groups)]
    if not rows:
        return None, {}
    seen = Period(rows[0].start, span.end)
    starts = [*bucket_starts(seen.start, seen.end, "day", organisation.zone), seen.end]
    days: dict[Period, dict[Key, Decimal]] = {Period(start, end): {} for start, end in pairwise(starts)}
    by_start = {day.start: units for day, units in days.items()}
    for row in rows:
        by_start[row.start][row.group] = row.value
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
