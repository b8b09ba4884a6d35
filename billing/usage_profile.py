"""How use is spread over the week, and what that says of the time to come. Arithmetic: no database, no clock, no money.

A profile has a weight for each hour of each weekday, by the organisation's clock; an average day weighs 1. A level is
use per unit of weight, the newest days counting most. What is to come is level × weight of the time that is left.
Expectations are estimates, so quotients are rounded here; no amount is.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.money import ZERO
from billing.periods import QUARTER_HOUR, Period

HOURS = 24
QUARTERS = 4
WEEKEND = 5
# After this many days a day counts half.
HALF_LIFE = Decimal(7)
FADING = Decimal("0.5") ** (1 / HALF_LIFE)
# What a level rests on, in whole days: the sum of the fading weights of a long history.
DAYS_BEHIND_LEVEL = 1 / (1 - FADING)
# A level is this many days old on average; growth since then is part of the expectation.
AGE_OF_LEVEL = DAYS_BEHIND_LEVEL - 1
# Growth is taken at three quarters of its pace, and never as more than this a week: a new customer's first weeks go on
# for nobody.
DAMPING = Decimal("0.75")
LEAST_GROWTH, MOST_GROWTH = Decimal("0.8"), Decimal("1.25")
# Two stretches of this length are held against each other.
GROWTH_WEEKS = 2
GROWTH_SPAN = timedelta(weeks=GROWTH_WEEKS)
# By how much of itself a level drifts in a week, for reasons that no history knows.
DRIFT = Decimal("0.04")
# Eight of ten outcomes should lie within, if days scatter as they did.
SPREAD_OF_EIGHTY_PERCENT = Decimal("1.2816")

type Key = tuple[str, ...]  # meter, model, and what else use is kept apart by
type Days = Mapping[Period, Mapping[Key, Decimal]]
type Weights = Mapping[Period, Decimal]
type Scales = Mapping[Key, Decimal]


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights by weekday (Monday is 0) and hour; the 168 add up to 7."""

    weights: Mapping[tuple[int, int], Decimal]
    zone: ZoneInfo

    def weight(self, period: Period) -> Decimal:
        """How much of an average day's use the time between two quarter hours holds."""
        total, at = ZERO, period.start
        while at < period.end:
            local = at.astimezone(self.zone)
            total += self.weights[local.weekday(), local.hour]
            at += QUARTER_HOUR
        return total / QUARTERS


@dataclass(frozen=True, slots=True)
class Expectation:
    """Use that is still to come: the middle of what is expected, per key and stretch of time, and how sure that is."""

    units: Mapping[tuple[Key, Period], Decimal]
    # Of the sum, as a share of it: 0.2 says that eight of ten outcomes lie within 20 % of the middle.
    spread: Decimal


def profile_of(hours: Iterable[tuple[datetime, Decimal]], *, seen: Period, zone: ZoneInfo) -> Profile:
    """From use per hour within the time `seen`. Hours of working days share one curve, those of weekends another."""
    by_day, by_hour = [ZERO] * 7, {False: [ZERO] * HOURS, True: [ZERO] * HOURS}
    for start, units in hours:
        local = start.astimezone(zone)
        by_day[local.weekday()] += units
        by_hour[local.weekday() >= WEEKEND][local.hour] += units
    lengths = _days_seen(seen, zone)
    means = [units / length if length else None for units, length in zip(by_day, lengths, strict=True)]
    known = [mean for mean in means if mean is not None]
    average = sum(known, ZERO) / len(known) if known else ZERO
    factors = [1 if mean is None or not average else mean / average for mean in means]
    scale = 7 / Decimal(sum(factors)) if sum(factors) else ZERO
    return Profile(
        {
            (day, hour): Decimal(factors[day]) * scale * _share(by_hour[day >= WEEKEND], by_hour, hour)
            for day in range(7)
            for hour in range(HOURS)
        },
        zone,
    )


def _days_seen(seen: Period, zone: ZoneInfo) -> list[Decimal]:
    """How many days of each weekday the time holds, parts of days included."""
    hours, at = [ZERO] * 7, seen.start
    while at < seen.end:
        hours[at.astimezone(zone).weekday()] += 1
        at += timedelta(hours=1)
    return [count / HOURS for count in hours]


def _share(curve: list[Decimal], curves: Mapping[bool, list[Decimal]], hour: int) -> Decimal:
    """The hour's share of a day; of all days where these had no use at all, an even one where none had."""
    if not any(curve):
        curve = [sum(pair, ZERO) for pair in zip(*curves.values(), strict=True)]
    total = sum(curve, ZERO)
    return curve[hour] / total if total else 1 / Decimal(HOURS)


def expect(days: Days, *, profile: Profile, stretches: Iterable[Period], now: datetime) -> Expectation:
    """What is to come in the stretches, from use per day (the last may be unfinished) and key."""
    weights = {day: profile.weight(day) for day in days}
    levels, growth = _levels(days, weights, now), _weekly_growth(days, weights, now)
    units: dict[tuple[Key, Period], Decimal] = {}
    total_weight, weeks_ahead = ZERO, ZERO
    for stretch in stretches:
        weight = profile.weight(stretch)
        total_weight += weight
        middle = stretch.start + (stretch.end - stretch.start) / 2
        weeks = (Decimal((middle - now) / timedelta(days=1)) + AGE_OF_LEVEL) / 7
        weeks_ahead += weeks * weight
        grown = weight * growth**weeks
        units |= {(key, stretch): level * grown for key, level in levels.items()}
    mean_ahead = weeks_ahead / total_weight if total_weight else ZERO
    return Expectation(units, _spread(days, weights, levels, weight=total_weight, weeks_ahead=mean_ahead))


def _levels(days: Days, weights: Weights, now: datetime) -> dict[Key, Decimal]:
    """Use per unit of weight, newer days counting more."""
    fading = {day: FADING ** Decimal((now - day.start) / timedelta(days=1)) for day in days}
    base = sum((fading[day] * weights[day] for day in days), ZERO)
    sums: dict[Key, Decimal] = {}
    for day, units in days.items():
        for key, quantity in units.items():
            sums[key] = sums.get(key, ZERO) + fading[day] * quantity
    return {key: total / base for key, total in sums.items()} if base else {}


def _weekly_growth(days: Days, weights: Weights, now: datetime) -> Decimal:
    """By what a week changes use, from the last two weeks against the two before, damped; 1 where that is unknown."""
    scales = _scales(days)
    recent = [day for day in days if now - GROWTH_SPAN <= day.start]
    before = [day for day in days if now - 2 * GROWTH_SPAN <= day.start < now - GROWTH_SPAN]
    if len(before) < GROWTH_SPAN.days:
        return Decimal(1)
    paces = [_pace(stretch, days, weights, scales) for stretch in (recent, before)]
    if not all(paces):
        return Decimal(1)
    weekly = (paces[0] / paces[1]) ** (DAMPING / GROWTH_WEEKS)
    return max(LEAST_GROWTH, min(MOST_GROWTH, weekly))


def _pace(
    some: Collection[Period],
    days: Days,
    weights: Weights,
    scales: Scales,
) -> Decimal:
    """Use of these days per unit of weight."""
    weight = sum((weights[day] for day in some), ZERO)
    return _in_common(some, days, scales) / weight if weight else ZERO


def _spread(
    days: Days, weights: Weights, levels: Mapping[Key, Decimal], *, weight: Decimal, weeks_ahead: Decimal
) -> Decimal:
    """How far the sum over `weight` average days may be off, from how far single days were from what was expected.

    Four things add up: the days to come scatter, the level was read from days that did, and so was the growth; and what
    was a level may drift until then.
    """
    scales = _scales(days)
    expected = sum((level * scales[key] for key, level in levels.items()), ZERO)
    known = [day for day in days if weights[day] > 0]
    if not expected or not weight or len(known) < 2:
        return Decimal(1)
    off = [_in_common([day], days, scales) - expected * weights[day] for day in known]
    variance = sum((miss * miss for miss in off), ZERO) / sum((weights[day] for day in known), ZERO)
    of_a_day = variance.sqrt() / expected
    behind = min(DAYS_BEHIND_LEVEL, Decimal(len(known)))
    of_growth = DAMPING / GROWTH_WEEKS * weeks_ahead
    scatter = of_a_day * of_a_day * (1 / weight + 1 / behind + of_growth * of_growth * 2 / GROWTH_SPAN.days)
    drift = DRIFT * weeks_ahead
    return SPREAD_OF_EIGHTY_PERCENT * (scatter + drift * drift).sqrt()


def _scales(days: Days) -> dict[Key, Decimal]:
    """What makes meters comparable: each meter counts for as much as any other, whatever its unit."""
    totals: dict[str, Decimal] = {}
    for units in days.values():
        for key, quantity in units.items():
            totals[key[0]] = totals.get(key[0], ZERO) + abs(quantity)
    return {key: 1 / total if (total := totals[key[0]]) else ZERO for units in days.values() for key in units}


def _in_common(some: Iterable[Period], days: Days, scales: Scales) -> Decimal:
    return sum((scales[key] * units for day in some for key, units in days[day].items()), ZERO)
