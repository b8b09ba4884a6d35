"""Which line of which bill an event feeds: of the first invoice that counted it, or of the running bill.

An invoice counts what had come in by its cutoff. What comes later for its period is an adjustment on a later one, and
stands until then on the running bill. Writes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from accounts.models import Organisation
from billing.bills import BillLine
from billing.invoicing import running_bill
from billing.models import InvoiceLine
from billing.models.invoices import LineKind
from billing.subscribing import current_subscription
from metering.event_lookup import Acceptance, Feed

METERED = frozenset({LineKind.USAGE, LineKind.ADJUSTMENT})


@dataclass(frozen=True, slots=True)
class EventLine:
    """A line that an event is part of. What the plan does not charge, or what has no price yet, has none."""

    meter: str
    model: str
    # None: the running bill.
    invoice: str | None
    kind: str
    description: str
    period_start: datetime
    period_end: datetime


def lines_of_event(organisation: Organisation, event: Acceptance, now: datetime) -> list[EventLine]:
    """A line per meter that the event feeds and that is charged for."""
    invoiced = [(feed, _invoice_line(organisation, feed, event.received_at)) for feed in event.feeds]
    open_feeds = [feed for feed, line in invoiced if line is None]
    running = _running_lines(organisation, now) if open_feeds else []
    found = [_as_event_line(feed, line or _first(running, feed)) for feed, line in invoiced]
    return [line for line in found if line is not None]


def _invoice_line(organisation: Organisation, feed: Feed, received_at: datetime) -> InvoiceLine | None:
    """Of the first invoice that was made when the event had come in."""
    lines = InvoiceLine.objects.filter(
        invoice__organisation=organisation,
        kind__in=METERED,
        meter=feed.meter,
        model__in={feed.model, ""},
        period_start__lte=feed.interval_start,
        period_end__gt=feed.interval_start,
    ).select_related("invoice")
    counted = (line for line in lines.order_by("invoice_id", "position") if _cutoff(line) >= received_at)
    return next(counted, None)


def _cutoff(line: InvoiceLine) -> datetime:
    return datetime.fromisoformat(line.invoice.evidence["cutoff"])


def _running_lines(organisation: Organisation, now: datetime) -> list[BillLine]:
    subscription = current_subscription(organisation, now)
    return [] if subscription is None else list(running_bill(subscription, now).lines)


def _first(lines: Iterable[BillLine], feed: Feed) -> BillLine | None:
    fitting = (
        line
        for line in lines
        if line.kind in METERED
        and line.meter == feed.meter
        and line.model in {feed.model, ""}
        and line.period_start <= feed.interval_start < line.period_end
    )
    return next(fitting, None)


def _as_event_line(feed: Feed, line: InvoiceLine | BillLine | None) -> EventLine | None:
    if line is None:
        return None
    return EventLine(
        meter=feed.meter,
        model=feed.model,
        invoice=line.invoice.number if isinstance(line, InvoiceLine) else None,
        kind=line.kind,
        description=line.description,
        period_start=line.period_start,
        period_end=line.period_end,
    )
