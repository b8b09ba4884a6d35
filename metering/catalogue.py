"""The active meters as intake needs them: by event type, remembered for a few seconds per process.

Folding reads the meters itself; this only decides verdicts, so a new meter may be reported a few seconds late.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metering.members import Condition, conditions_of, lets_through
from metering.models import Aggregation, Meter

LIFE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What a meter asks of an event's data."""

    key: str
    # A member of the data. Empty: the meter counts events and needs no value, or it is `special`.
    field: str
    effective_from: datetime
    is_numeric: bool
    allows_negative: bool
    # What is more than a member's value.
    special: "Special | None" = None

    @property
    def path(self) -> str:
        """Where the value is; empty: it needs none."""
        return self.special.path if self.special else self.field


@dataclass(frozen=True, slots=True)
class Special:
    """A rule with conditions or a path through objects."""

    path: str
    # (from, until, conditions) in the order of time; until is None for good.
    spans: tuple[tuple[datetime, datetime | None, tuple[Condition, ...]], ...]

    def reads(self, data: Mapping[str, Any], time: datetime) -> bool:
        """Whether the definition in force at that time lets the event through."""
        return any(
            since <= time and (until is None or time < until) and lets_through(conditions, data)
            for since, until, conditions in self.spans
        )


Rules = tuple[Rule, ...]
_remembered: tuple[float, dict[str, Rules]] | None = None


def rules_by_event_type() -> dict[str, Rules]:
    """The rules of all active meters by event type, in the order of the meters' position."""
    global _remembered
    if _remembered is None or time.monotonic() - _remembered[0] > LIFE_SECONDS:
        _remembered = (time.monotonic(), _load())
    return _remembered[1]


def forget() -> None:
    """Read the meters anew at the next event."""
    global _remembered
    _remembered = None


def _load() -> dict[str, Rules]:
    found: dict[str, list[Rule]] = {}
    for meter in Meter.objects.active().prefetch_related("revisions").order_by("position", "key"):
        found.setdefault(meter.event_type, []).append(_rule(meter))
    return {event_type: tuple(rules) for event_type, rules in found.items()}


def _rule(meter: Meter) -> Rule:
    special = _special(meter)
    return Rule(
        key=meter.key,
        field="" if special else meter.value_field,
        effective_from=meter.effective_from,
        is_numeric=meter.aggregation not in {Aggregation.COUNT, Aggregation.UNIQUE_COUNT},
        allows_negative=meter.aggregation != Aggregation.SUM,
        special=special,
    )


def _special(meter: Meter) -> Special | None:
    spans = tuple((since, until, conditions_of(one.filters)) for one, since, until in meter.definitions())
    if "." not in meter.value_field and not any(conditions for _, _, conditions in spans):
        return None
    return Special(meter.value_field, spans)
