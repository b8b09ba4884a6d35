"""Meters as the statements need them: one rule per meter and revision, with the instants between which it reads."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from metering.members import Condition, Tiers, conditions_of, tiers_of
from metering.models import Aggregation, Meter, SeriesLimit
from metering.models.meters import SUMMED


@dataclass(frozen=True, slots=True)
class Dimension:
    """A label of a series: a member of the event's data, or the tier of its size."""

    name: str
    tiers: Tiers | None


@dataclass(frozen=True, slots=True)
class Rule:
    """A meter's definition. `since` and `until` are None where every event at hand lies inside."""

    meter_id: int
    event_type: str
    aggregation: str
    # Empty: it counts events.
    value_field: str
    dimensions: tuple[Dimension, ...]
    conditions: tuple[Condition, ...]
    since: datetime | None
    until: datetime | None
    # Whether an organisation had too many series of it in that time: then their labels read "(other)".
    is_bounded: bool = False

    @property
    def column(self) -> tuple[Any, ...]:
        """What the value is extracted by: meters that agree on it share a column."""
        return self.value_field, self.since, self.until, self.conditions


def rules_between(first: datetime, last: datetime) -> tuple[Rule, ...]:
    """The rules that read events of `first` to `last`, both included; an archived meter reads what came before that."""
    meters = Meter.objects.filter(effective_from__lte=last).prefetch_related("revisions").order_by("pk")
    limits = SeriesLimit.objects.filter(starts_at__lte=last, ends_at__gt=first)
    bounded = set(limits.values_list("meter_id", flat=True))
    rules = (rule for meter in meters for rule in _rules(meter, first, last))
    return tuple(replace(rule, is_bounded=rule.meter_id in bounded) for rule in rules)


def summed(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Those whose totals are sums and numbers of events."""
    return tuple(rule for rule in rules if rule.aggregation in SUMMED)


def others(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Those whose totals are something else, which can neither be added nor subtracted."""
    return tuple(rule for rule in rules if rule.aggregation not in SUMMED)


def event_types(rules: Iterable[Rule]) -> list[str]:
    return sorted({rule.event_type for rule in rules})


def _rules(meter: Meter, first: datetime, last: datetime) -> Iterator[Rule]:
    for one, since, until in meter.definitions():
        if since <= last and (until is None or until > first):
            tiers = tiers_of(one.tiers)
            yield Rule(
                meter_id=meter.pk,
                event_type=meter.event_type,
                aggregation=meter.aggregation,
                value_field="" if meter.aggregation == Aggregation.COUNT else meter.value_field,
                dimensions=tuple(Dimension(name, tiers.get(name)) for name in (*one.dimensions, *tiers)),
                conditions=conditions_of(one.filters),
                since=since if since > first else None,
                until=until if until is not None and until <= last else None,
            )
