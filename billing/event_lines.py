"""Which line of which bill an event feeds: of the first invoice that counted it, or of the running bill.

An invoice counts what had come in by its cutoff. What comes later for its period is an adjustment on a later one, and
stands until then on the running bill. Writes nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter

from accounts.models import Organisation
from billing import rating
from billing.bills import BillLine, short_key
from billing.catalogue import components_of
from billing.invoicing import bill_before_credit
from billing.models import InvoiceLine, Price, Subscription
from billing.models.invoices import LineKind
from billing.periods import Period
from billing.price_book import cost_book, price_book
from billing.schedules import earliest_open_period, period_containing, version_at
from billing.subscribing import current_subscription
from billing.usage_labels import in_words_of_prices
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
    project = {rating.PROJECT: event.project} if event.project else {}
    feeds = [replace(feed, labels={**feed.labels, **project}) for feed in event.feeds]
    invoiced = [(feed, _invoice_line(organisation, feed, event.received_at)) for feed in feeds]
    open_feeds = [feed for feed, line in invoiced if line is None]
    subscription = current_subscription(organisation, now) if open_feeds else None
    running = [] if subscription is None else _open_lines(subscription, open_feeds, now)
    found = []
    for feed, line in invoiced:
        of_feed = [one for one in running if _may_hold(one, feed)] if line is None else []
        found.append(_as_event_line(feed, line or _line_of(of_feed, feed, subscription)))
    return [line for line in found if line is not None]


def _invoice_line(organisation: Organisation, feed: Feed, received_at: datetime) -> InvoiceLine | None:
    """Of the first invoice that was made when the event had come in."""
    rows = InvoiceLine.objects.filter(
        invoice__organisation=organisation,
        kind__in=METERED,
        meter=feed.meter,
        model__in={feed.model, ""},
        period_start__lte=feed.interval_start,
        period_end__gt=feed.interval_start,
    ).select_related("invoice__subscription")
    for _, lines in groupby(rows.order_by("invoice_id", "position"), key=attrgetter("invoice_id")):
        of_invoice = list(lines)
        if _cutoff(of_invoice[0]) >= received_at:
            invoice = of_invoice[0].invoice
            return _line_of(of_invoice, feed, invoice.subscription, invoice.prices_known_at or invoice.finalised_at)
    return None


def _open_lines(subscription: Subscription, feeds: list[Feed], now: datetime) -> list[BillLine]:
    """Of the open bills that these are on: each that of its own period, or late usage the earliest."""
    earliest = earliest_open_period(subscription)
    if earliest is None:
        return []
    periods = {max(period_containing(subscription, feed.interval_start), earliest) for feed in feeds}
    bills = [bill_before_credit(subscription, now, period=period) for period in sorted(periods)]
    return [line for bill in bills for line in bill.lines]


def _cutoff(line: InvoiceLine) -> datetime:
    return datetime.fromisoformat(line.invoice.evidence["cutoff"])


def _may_hold(line: BillLine, feed: Feed) -> bool:
    is_of_meter = line.kind in METERED and line.meter == feed.meter and line.model in {feed.model, ""}
    return is_of_meter and line.period_start <= feed.interval_start < line.period_end


def _line_of[Line: (InvoiceLine, BillLine)](
    lines: list[Line], feed: Feed, subscription: Subscription | None, known_at: datetime | None = None
) -> Line | None:
    """Of lines of one meter, that which prices the feed's quarter hour: peak and off-peak are two, and so are those of
    projects that the plan keeps apart.

    Rating the feed alone names it; where that gives another line, the one whose price's windows hold then.
    """
    if len(lines) < 2 or subscription is None:
        return next(iter(lines), None)
    keys = _keys_of(feed, subscription, known_at)
    # Adjustments and the lines of a plan that took over put something before the key.
    ends = tuple(mark + key for key in keys for mark in (":", "/"))
    of_key = (line for line in lines if line.key in keys or line.key.endswith(ends))
    return next(of_key, None) or _line_in_window(lines, feed)


def _keys_of(feed: Feed, subscription: Subscription, known_at: datetime | None) -> set[str]:
    """The keys of the lines that rating makes of the feed alone, by the price book as it stood."""
    period = Period(feed.interval_start, feed.interval_end)
    components = components_of(version_at(subscription, feed.interval_start))
    labels = in_words_of_prices(feed.meter, feed.labels)
    rated = rating.rate(
        [rating.Reading(feed.meter, feed.model, Decimal(1), period.start, period.end, labels)],
        components=components,
        prices=price_book(subscription.currency, period, known_at=known_at),
        costs=cost_book(subscription.currency, period, known_at=known_at),
        period=period,
        fee_period=None,
        currency=subscription.currency,
    )
    return {short_key(line.key) for line in rated.lines if line.meter == feed.meter}


def _line_in_window[Line: (InvoiceLine, BillLine)](lines: list[Line], feed: Feed) -> Line:
    """The line with a price whose weekly window is open then, else one with a price for any time, else the first."""
    named = {price_id for line in lines for price_id in line.price_ids}
    windows = dict(Price.objects.filter(public_id__in=named).values_list("public_id", "windows"))

    def fit(line: Line) -> int:
        texts = [windows.get(price_id, "") for price_id in line.price_ids]
        if any(text and rating.parse_windows(text).contains(feed.interval_start) for text in texts):
            return 2
        return 0 if any(texts) else 1

    return max(lines, key=fit)


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
