"""What admission needs to know of prices and periods, written into metering: upper prices and billing windows.

Written when a subscription starts or changes, and by a sweep when the price book has changed or the windows run out.
What was written for the past stays, since counters of spend were counted by it. An estimate is the most that a unit can
cost on the organisation's plan, so that a limit of spend is never overrun because a price was guessed too low.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from django.db import transaction
from django.db.models import F, Q

from accounts.models import Organisation
from accounts.remembering import remembering
from billing import rating, schedules
from billing.catalogue import components_of
from billing.models import EstimatesWritten, Price, Subscription
from billing.models.subscriptions import SubscriptionState
from billing.money import QUOTIENT, ZERO
from billing.periods import Period
from billing.price_book import book_known_at, cost_book, price_book
from metering.models import BillingWindow, Measure, PriceEstimate, Quota

# Changes of prices and plans that far ahead are written in advance; the sweep comes by much more often.
AHEAD = timedelta(days=40)
REWRITE_AFTER = timedelta(days=1)
AT_A_TIME = 200
PLACES = Decimal(1).scaleb(-24)


@dataclass(frozen=True, slots=True)
class _Row:
    """One price from an instant on, by (meter, model)."""

    place: tuple[str, str]
    valid_from: datetime
    # None: nothing prices it.
    unit_price: Decimal | None
    currency: str


def write_estimates(organisation: Organisation, now: datetime) -> None:
    """Bring an organisation's price estimates and billing windows up to date, from `now` on; the first time from the
    start of its running period, unless spend is counted already."""
    with transaction.atomic(), remembering(anew=True):
        Organisation.objects.select_for_update(no_key=True).get(pk=organisation.pk)
        found = Subscription.objects.for_organisation(organisation).current().first()
        subscription = schedules.with_terms(found) if found is not None else None
        _write_windows(organisation, subscription, now)
        _write_prices(organisation, subscription, now)
        EstimatesWritten.objects.update_or_create(
            organisation=organisation, defaults={"written_at": now, "book_known_at": book_known_at()}
        )


def write_due_estimates(now: datetime, *, limit: int = AT_A_TIME) -> int:
    """Write those of subscribers whose prices may have changed, or whose windows were written a day ago."""
    newest = book_known_at()
    is_old = Q(organisation__estimates_written=None) | Q(
        organisation__estimates_written__written_at__lte=now - REWRITE_AFTER
    )
    if newest is not None:
        is_old |= Q(organisation__estimates_written__book_known_at=None)
        is_old |= Q(organisation__estimates_written__book_known_at__lt=newest)
    due = Subscription.objects.filter(is_old).exclude(state=SubscriptionState.CANCELLED).select_related("organisation")
    written = [
        row.organisation for row in due.order_by(F("organisation__estimates_written__written_at").asc(nulls_first=True))
    ]
    for organisation in written[:limit]:
        write_estimates(organisation, now)
    return len(written[:limit])


def _write_windows(organisation: Organisation, subscription: Subscription | None, now: datetime) -> None:
    """The running period and the next two; those that have begun stay, unless the subscription cut them short."""
    rows = BillingWindow.objects.filter(organisation=organisation)
    rows.filter(starts_at__gt=now).delete()
    if subscription is None:
        rows.filter(ends_at__gt=now).update(ends_at=now)
        return
    for period in _periods(subscription, now):
        rows.filter(starts_at__lt=period.start, ends_at__gt=period.start).update(ends_at=period.start)
        BillingWindow.objects.update_or_create(
            organisation=organisation, starts_at=period.start, defaults={"ends_at": period.end}
        )


def _periods(subscription: Subscription, now: datetime) -> Iterator[Period]:
    period = schedules.current_period(subscription, now)
    for _ in range(3):
        yield period
        if not schedules.goes_on_after(subscription, period):
            return
        period = schedules.period_after(subscription, period)


def _write_prices(organisation: Organisation, subscription: Subscription | None, now: datetime) -> None:
    rows = PriceEstimate.objects.filter(organisation=organisation)
    rows.filter(valid_from__gte=now).delete()
    had = {
        (row.meter_key, row.model): _Row((row.meter_key, row.model), row.valid_from, row.unit_price, row.currency)
        for row in rows.order_by("valid_from")
    }
    start = now
    if subscription is not None and not had and not _counts_spend(organisation):
        start = min(now, schedules.current_period(subscription, now).start)
    changes = _changes(had, _tables(subscription, had, start))
    PriceEstimate.objects.bulk_create(
        PriceEstimate(
            organisation=organisation,
            meter_key=row.place[0],
            model=row.place[1],
            currency=row.currency,
            unit_price=row.unit_price or ZERO,
            valid_from=row.valid_from,
        )
        for row in changes
    )


def _counts_spend(organisation: Organisation) -> bool:
    """Whether counters of spend have run already, which prices for the past would put in the wrong."""
    return Quota.objects.for_organisation(organisation).filter(measure=Measure.SPEND).exists()


def _changes(had: Mapping[tuple[str, str], _Row], tables: Sequence[Sequence[_Row]]) -> list[_Row]:
    """The rows that say something new. What has no price any more costs nothing, and that has to be said; what never
    had one has no row, so that a call is quoted nothing rather than zero. A model needs rows of its own only from where
    it first costs something else than any model."""
    last = dict(had)
    changes: list[_Row] = []
    for table in tables:
        usual = {row.place[0]: row.unit_price for row in table if not row.place[1]}
        for row in table:
            before = last.get(row.place)
            if before is None and row.unit_price == (usual.get(row.place[0]) if row.place[1] else None):
                continue  # as any model, or never priced
            priced = replace(row, unit_price=row.unit_price or ZERO)
            if before is None or (before.unit_price, before.currency) != (priced.unit_price, priced.currency):
                last[row.place] = priced
                changes.append(priced)
    return changes


def _tables(
    subscription: Subscription | None, had: Mapping[tuple[str, str], _Row], start: datetime
) -> list[list[_Row]]:
    """All prices as they are from the start on, and again from each instant at which some may change."""
    if subscription is None:
        return [[_Row(place, start, ZERO, row.currency) for place, row in had.items()]]
    span = Period(start, start + AHEAD)
    prices, costs = price_book(subscription.currency, span), cost_book(subscription.currency, span)
    rows = Price.objects.standing().filter(currency=subscription.currency).overlapping(span.start, span.end)
    edges = {edge for edges in rows.values_list("valid_from", "valid_until") for edge in edges if edge}
    edges |= {phase.starts_at for phase in schedules.phases_of(subscription)}
    edges |= {at for pause in schedules.pauses_of(subscription) for at in (pause.starts_at, pause.ends_at) if at}
    edges |= {at for at in (subscription.trial_ends_at, subscription.ends_at) if at}
    models = {model for _, model in had} | set(rows.values_list("model", flat=True)) | {""}
    tables = []
    for instant in [start, *sorted(edge for edge in edges if span.start < edge < span.end)]:
        tables.append(_table(subscription, had, models, instant, prices, costs))
    return tables


def _table(
    subscription: Subscription,
    had: Mapping[tuple[str, str], _Row],
    models: set[str],
    instant: datetime,
    prices: rating.PriceBook,
    costs: rating.PriceBook,
) -> list[_Row]:
    has_ended = subscription.ends_at is not None and subscription.ends_at <= instant
    is_free = has_ended or schedules.rest_at(subscription, instant) != schedules.Rest.NONE
    components = [] if is_free else components_of(schedules.version_at(subscription, instant))
    named = {name for one in components for name in one.only_models if not set(name) & set("*?[")}
    found = []
    for meter in sorted({meter for meter, _ in had} | _meters_of(components)):
        for model in sorted(models | named):
            price = rating.highest_unit_price(
                components, meter, model=model, instant=instant, prices=prices, costs=costs
            )
            rounded = None if price is None else _rounded_up(price)
            found.append(_Row((meter, model), instant, rounded, subscription.currency))
    return found


def _meters_of(components: Sequence[rating.Component]) -> set[str]:
    found: set[str] = set()
    for component in components:
        if isinstance(component, rating.RateCard | rating.CostPlus):
            found.update(component.meters)
        elif isinstance(component, rating.MeterComponent):
            found.add(component.meter)
    return found


def _rounded_up(price: Decimal) -> Decimal:
    return price.quantize(PLACES, rounding=ROUND_CEILING, context=QUOTIENT)
