"""The active meters as intake needs them: by event type, remembered for a few seconds per process.

Folding reads the meters itself; this only decides verdicts, so a new meter may be reported a few seconds late.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from metering.models import Aggregation, Meter

LIFE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What a meter asks of an event's data."""

    key: str
    # Empty: the meter counts events and needs no value.
    field: str
    effective_from: datetime
    is_numeric: bool
    allows_negative: bool


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
    for meter in Meter.objects.active().order_by("position", "key"):
        found.setdefault(meter.event_type, []).append(_rule(meter))
    return {event_type: tuple(rules) for event_type, rules in found.items()}


def _rule(meter: Meter) -> Rule:
    return Rule(
        key=meter.key,
        field=meter.value_field,
        effective_from=meter.effective_from,
        is_numeric=meter.aggregation not in {Aggregation.COUNT, Aggregation.UNIQUE_COUNT},
        allows_negative=meter.aggregation != Aggregation.SUM,
    )
