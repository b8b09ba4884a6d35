"""Is what was billed what was metered? The readings an invoice rests on, against the events themselves.

An invoice counts the events that had come in by its cutoff; what came later is the next invoice's. Recomputes the
quantities of every period that the invoice rated, and the digest over its evidence. Changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from billing.models import Invoice
from metering.event_quantities import event_quantities
from metering.models import IngestBatch, Meter
from metering.seal_checks import are_kept


@dataclass(frozen=True, slots=True)
class BillFinding:
    """A quantity of an invoice that its events do not say; None: there is none on that side."""

    invoice: str
    meter: str
    model: str
    start: datetime
    end: datetime
    billed: Decimal | None
    metered: Decimal | None


def check_invoice(invoice: Invoice) -> list[BillFinding]:
    """Every reading that is not the sum of its events; empty is good."""
    return [finding for period in invoice.evidence["periods"] for finding in _check_period(invoice, period)]


def noted_seal(invoice: Invoice) -> str:
    """The digest of the newest seal when the invoice was made, which the chain must still contain; empty: none."""
    seal = invoice.evidence.get("seal")
    return seal["digest"] if seal else ""


def is_checkable(invoice: Invoice) -> bool:
    """Whether all events that the invoice rests on are still kept."""
    months: set[date] = set()
    for period in invoice.evidence["periods"]:
        batches = IngestBatch.objects.filter(
            organisation=invoice.organisation, last_time__gte=period["start"], first_time__lt=period["end"]
        )
        months |= set(batches.values_list("receipt_month", flat=True).distinct())
    return all(are_kept(month) for month in months)


def _check_period(invoice: Invoice, period: dict[str, Any]) -> Iterator[BillFinding]:
    billed: dict[_Place, Decimal] = defaultdict(Decimal)
    for one in period["readings"]:  # labels tell readings of one place apart; its events are added up over them
        billed[_place(one)] += Decimal(one["quantity"])
    metered = _metered(invoice, period, splits=[at for _, _, *span in billed for at in span])
    parts = frozenset(Meter.objects.exclude(part_of=None).values_list("key", flat=True))
    for place in sorted(billed.keys() | metered.keys()):
        meter, model, start, end = place
        on_bill, of_events = billed.get(place), metered.get(place)
        # A part of another meter is billed only where the plan names it; a sum of zero leaves no total behind.
        is_left_out = on_bill is None and (meter in parts or not of_events)
        if on_bill != of_events and not is_left_out and (on_bill or of_events):
            yield BillFinding(invoice.number, meter, model, start, end, on_bill, of_events)


type _Place = tuple[str, str, datetime, datetime]


def _metered(invoice: Invoice, period: dict[str, Any], *, splits: list[datetime]) -> dict[_Place, Decimal]:
    found = event_quantities(
        invoice.organisation,
        start=_instant(period["start"]),
        end=_instant(period["end"]),
        splits=splits,
        received_by=_instant(invoice.evidence["cutoff"]),
    )
    return {(one.meter_key, one.model, one.start, one.end): one.value for one in found}


def _place(reading: dict[str, str]) -> _Place:
    return reading["meter"], reading["model"], _instant(reading["start"]), _instant(reading["end"])


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
