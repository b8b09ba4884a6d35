"""Margin: what the bills earn against what the provider charges for the same usage, by day, model and organisation.

Revenue is the lines of the bill itself, spread over the days and models they are for by quantity; nothing is rated a
second way, so the rows of a bill add up to its total. Costs come from the price book's provider costs, dated, day by
day. Usage without a cost is marked, never taken for free. A projection: rows are replaced whenever it is made again.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal, cast
from zoneinfo import ZoneInfo

from django.contrib.postgres.aggregates import BoolOr
from django.db import transaction
from django.db.models import F, Sum

from accounts.models import Organisation
from billing import invoicing, rating, schedules
from billing.bills import BillLine
from billing.models import Invoice, InvoiceLine, MarginDay, Price, Subscription
from billing.models.invoices import InvoiceState, LineKind
from billing.money import EXACT, QUOTIENT, ZERO, cost_of, exact_sum, plain
from billing.periods import Period, quarter_hour_floor
from billing.price_book import cost_book
from billing.usage_labels import in_words_of_prices
from metering import reports
from metering.buckets import midnight
from metering.models import Meter

# Bills that ended longer ago are not made again: nothing about them changes.
LOOK_BACK = timedelta(days=62)
DAY = timedelta(days=1)
# Amounts that move between bills, and how a bill is paid: neither is earned by a model.
NO_REVENUE = frozenset({LineKind.CARRY_OVER, LineKind.CREDIT, LineKind.OWED})

type Place = tuple[date, str]  # day, model
type Grouping = Literal["model", "organisation", "day"]


@dataclass(frozen=True, slots=True)
class Margin:
    """Sums over some rows, exact; `revenue` as it would be, where a price change is tried out."""

    # A model, the public id of an organisation or a day; empty for fees, and for all of them.
    id: str
    name: str
    currency: str
    revenue: Decimal
    cost: Decimal
    is_cost_partial: bool

    @property
    def amount(self) -> Decimal:
        return EXACT.subtract(self.revenue, self.cost)

    @property
    def percent(self) -> Decimal | None:
        """Of the revenue; None without any."""
        if self.revenue <= 0:
            return None
        return QUOTIENT.divide(self.amount * 100, self.revenue).quantize(Decimal("0.1"))


@dataclass(frozen=True, slots=True)
class PriceChange:
    """What if the prices of a model (empty: of every model) were this many percent higher; use staying the same."""

    percent: Decimal
    model: str = ""

    def applied(self, model: str, revenue: Decimal) -> Decimal:
        if not model or (self.model and model != self.model):
            return revenue
        return plain(EXACT.multiply(revenue, EXACT.add(Decimal(1), EXACT.scaleb(self.percent, Decimal(-2)))))


# --- Reading ------------------------------------------------------------------------------------------------------


def margins(
    first: date,
    last: date,
    *,
    by: Grouping,
    change: PriceChange | None = None,
    organisation: Organisation | None = None,
) -> list[Margin]:
    """One per currency and model, organisation or day, of the days from first to last; largest revenue first, days in
    order. Of one organisation, or of all."""
    ids = {"model": F("model"), "organisation": F("organisation__public_id"), "day": F("day")}
    days = MarginDay.objects.filter(day__gte=first, day__lte=last)
    rows = (
        (days.filter(organisation=organisation) if organisation else days)
        .values_list("currency", ids[by], "model")
        .annotate(revenue=Sum("revenue"), cost=Sum("cost"), partial=BoolOr("is_cost_partial"))
        .order_by()
    )
    sums: dict[tuple[str, object], list[tuple[Decimal, Decimal, bool]]] = defaultdict(list)
    for currency, id, model, revenue, cost, partial in rows:
        changed = change.applied(model, revenue) if change else revenue
        sums[currency, id].append((changed, cost, partial))
    names = _names({str(id) for _, id in sums}) if by == "organisation" else {}
    found = [
        (
            id,
            Margin(
                str(id),
                names.get(str(id)) or str(id) or "fees and commitments",
                currency,
                exact_sum(part[0] for part in parts),
                exact_sum(part[1] for part in parts),
                any(part[2] for part in parts),
            ),
        )
        for (currency, id), parts in sums.items()
    ]
    if by == "day":
        ordered = sorted(found, key=lambda pair: (pair[1].currency, cast(date, pair[0])))
    else:
        ordered = sorted(found, key=lambda pair: (pair[1].currency, -pair[1].revenue, pair[1].name))
    return [margin for _, margin in ordered]


def totals(rows: Sequence[Margin]) -> list[Margin]:
    """One per currency."""
    return [
        Margin(
            "",
            "All",
            currency,
            exact_sum(row.revenue for row in rows if row.currency == currency),
            exact_sum(row.cost for row in rows if row.currency == currency),
            any(row.is_cost_partial for row in rows if row.currency == currency),
        )
        for currency in sorted({row.currency for row in rows})
    ]


def _names(public_ids: set[str]) -> dict[str, str]:
    return dict(Organisation.objects.filter(public_id__in=public_ids).values_list("public_id", "name"))


# --- Making -------------------------------------------------------------------------------------------------------


def compute_margins(now: datetime, *, since: datetime | None = None) -> int:
    """Make the rows of every bill that is open or ended since (62 days ago unless given); answers how many bills."""
    since = since or now - LOOK_BACK
    count = 0
    standing = Invoice.objects.exclude(state=InvoiceState.VOID)
    for invoice in standing.filter(period_end__gte=since).select_related("subscription").iterator(100):
        subscription = schedules.with_terms(invoice.subscription)
        lines = list(invoice.lines.all())
        _replace(subscription, Period(invoice.period_start, invoice.period_end), lines, now)
        count += 1
    for subscription in Subscription.objects.current().order_by("pk").iterator(100):
        count += _compute_open(schedules.with_terms(subscription), now)
    return count


def _compute_open(subscription: Subscription, now: datetime) -> int:
    """The running period and those that wait to be closed."""
    count, period = 0, schedules.earliest_open_period(subscription)
    while period is not None and period.start <= now:
        bill = invoicing.bill_before_credit(subscription, now, period=period)
        _replace(subscription, period, bill.lines, now)
        count, period = count + 1, schedules.period_after(subscription, period)
    return count


def _replace(
    subscription: Subscription, period: Period, lines: Iterable[InvoiceLine | BillLine], now: datetime
) -> None:
    used = _usage(subscription, period, now)
    revenue = _revenue(subscription, period, lines, used)
    costs, unknown = _costs(subscription, used)
    with transaction.atomic():
        MarginDay.objects.filter(subscription=subscription, bill_start=period.start).delete()
        MarginDay.objects.bulk_create(
            MarginDay(
                organisation_id=subscription.organisation_id,
                subscription=subscription,
                bill_start=period.start,
                day=day,
                model=model[:200],
                currency=subscription.currency,
                revenue=plain(revenue.get((day, model), ZERO)),
                cost=plain(costs.get((day, model), ZERO)),
                is_cost_partial=(day, model) in unknown,
                computed_at=now,
            )
            for day, model in sorted({*revenue, *costs, *unknown})
        )


@dataclass(frozen=True, slots=True)
class _Used:
    meter: str
    model: str
    day: date
    start: datetime
    end: datetime
    quantity: Decimal
    labels: rating.Labels  # those that a cost looks at


def _usage(subscription: Subscription, period: Period, now: datetime) -> list[_Used]:
    """The period's readings cut at midnights of the zone and where costs change; no part of another meter."""
    zone = subscription.zone
    books = cost_book(subscription.currency, period)
    splits = [*_midnights(period, zone), *books.boundaries(period)]
    parts = frozenset(Meter.objects.exclude(part_of=None).values_list("key", flat=True))
    quantities = reports.quantities(
        subscription.organisation,
        start=period.start,
        end=period.end,
        splits=splits,
        dimensions=rating.labels_needed((), [books]),
    )
    return [
        _Used(
            one.meter_key,
            one.model,
            one.start.astimezone(zone).date(),
            one.start,
            one.end,
            one.value,
            rating.labels_of(in_words_of_prices(one.meter_key, one.labels)),
        )
        for one in quantities
        if one.meter_key not in parts and one.start <= now
    ]


def _midnights(period: Period, zone: ZoneInfo) -> list[datetime]:
    first = period.start.astimezone(zone).date()
    count = (period.end.astimezone(zone).date() - first).days
    return [quarter_hour_floor(midnight(first + number * DAY, zone)) for number in range(1, count + 1)]


def _revenue(
    subscription: Subscription, period: Period, lines: Iterable[InvoiceLine | BillLine], used: Sequence[_Used]
) -> dict[Place, Decimal]:
    found: dict[Place, Decimal] = defaultdict(Decimal)
    for line in lines:
        if line.kind in NO_REVENUE:
            continue
        span = Period(line.period_start, line.period_end)
        weights = _weights(line, span, used) or _even(line.model, span, subscription.zone)
        for place, share in _spread(line.amount_exact, weights).items():
            found[place] = EXACT.add(found[place], share)
    return found


def _weights(line: InvoiceLine | BillLine, span: Period, used: Sequence[_Used]) -> dict[Place, Decimal]:
    """By quantity, over what the line counted: its meter, its model if it has one, in its time."""
    weights: dict[Place, Decimal] = defaultdict(Decimal)
    for one in used:
        is_counted = one.meter == line.meter and (not line.model or one.model == line.model)
        if is_counted and one.quantity > 0 and span.start <= one.start < span.end:
            weights[one.day, one.model] += one.quantity
    return weights


def _even(model: str, span: Period, zone: ZoneInfo) -> dict[Place, Decimal]:
    """Fees, and late usage of days that are not at hand, by the time that each day has of them."""
    cuts = span.split_at(_midnights(span, zone))
    return {
        (cut.start.astimezone(zone).date(), model): Decimal((cut.end - cut.start) // timedelta(seconds=1))
        for cut in cuts
    }


def _spread(amount: Decimal, weights: Mapping[Place, Decimal]) -> dict[Place, Decimal]:
    """Parts that add up to the amount exactly: the last place has what rounding left."""
    whole = exact_sum(weights.values())
    shares: dict[Place, Decimal] = {}
    left = amount
    for place, weight in list(weights.items())[:-1]:
        shares[place] = QUOTIENT.divide(EXACT.multiply(amount, weight), whole).quantize(Decimal("1e-18"))
        left = EXACT.subtract(left, shares[place])
    shares[list(weights)[-1]] = left
    return shares


def _costs(subscription: Subscription, used: Sequence[_Used]) -> tuple[dict[Place, Decimal], set[Place]]:
    """What the provider charges, and where that is not known of some usage."""
    costs: dict[Place, Decimal] = defaultdict(Decimal)
    unknown: set[Place] = set()
    if not used:
        return costs, unknown
    book = cost_book(subscription.currency, Period(min(one.start for one in used), max(one.end for one in used)))
    costly = _meters_that_cost(subscription.currency)
    for one in used:
        row = book.price(one.meter, model=one.model, instant=one.start, labels=one.labels)
        if row is not None:
            costs[one.day, one.model] += cost_of(one.quantity, row.amount, row.scale)
        elif one.meter in costly:
            unknown.add((one.day, one.model))
    return costs, unknown


def _meters_that_cost(currency: str) -> frozenset[str]:
    """Meters with a price of either kind. Others, requests as a rule, cost a provider nothing beyond their tokens."""
    return frozenset(Price.objects.filter(currency=currency).values_list("meter__key", flat=True).distinct())
