"""Usage that costs nothing on a bill or invoice, added up by meter and model, with the reason. Computes no price."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.bills import Bill
from billing.money import exact_sum
from billing.periods import Period
from billing.schedules import Rest

UNPRICED = "No price yet"
REASONS = {Rest.NONE: "Not part of the plan", Rest.TRIAL: "On trial", Rest.PAUSE: "Paused"}


@dataclass(frozen=True, slots=True)
class UncountedUsage:
    meter: str
    model: str
    quantity: Decimal
    reason: str

    @property
    def is_unpriced(self) -> bool:
        """Whether the plan would charge it, had it a price."""
        return self.reason == UNPRICED


def usage_without_charge(bill: Bill) -> list[UncountedUsage]:
    """Of the bill; what only lacks a price first."""
    rests = [(stretch.period, stretch.rest) for stretch in bill.rated[0].stretches] if bill.rated else []
    unpriced = [UncountedUsage(one.meter, one.model, one.quantity, UNPRICED) for one in bill.unpriced]
    uncovered = [
        UncountedUsage(one.meter, one.model, one.quantity, _reason(one.start, rests)) for one in bill.uncovered
    ]
    return [*_added_up(unpriced), *_added_up(uncovered)]


def usage_not_charged(evidence: Mapping[str, Any]) -> list[UncountedUsage]:
    """The same of an invoice, from its evidence."""
    rests = [
        (Period(_instant(held["start"]), _instant(held["end"])), Rest(held.get("nothing_charged", "")))
        for period in evidence["periods"][:1]
        for held in period.get("plans", ())
    ]
    unpriced = [_of_evidence(one, UNPRICED) for one in evidence["unpriced"]]
    uncovered = [_of_evidence(one, _reason(_instant(one["start"]), rests)) for one in evidence["not_charged"]]
    return [*_added_up(unpriced), *_added_up(uncovered)]


def _reason(start: datetime, rests: Sequence[tuple[Period, Rest]]) -> str:
    return REASONS[next((rest for period, rest in rests if period.start <= start < period.end), Rest.NONE)]


def _added_up(usages: Iterable[UncountedUsage]) -> list[UncountedUsage]:
    """By reason, model and meter."""
    sums: dict[tuple[str, str, str], list[Decimal]] = {}
    for one in usages:
        sums.setdefault((one.reason, one.model, one.meter), []).append(one.quantity)
    return [
        UncountedUsage(meter, model, exact_sum(quantities), reason)
        for (reason, model, meter), quantities in sorted(sums.items())
    ]


def _of_evidence(reading: Mapping[str, str], reason: str) -> UncountedUsage:
    return UncountedUsage(reading["meter"], reading["model"], Decimal(reading["quantity"]), reason)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
