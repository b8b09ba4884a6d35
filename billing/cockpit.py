"""What an operator wants to know before the first coffee: is usage coming in, is it counted, are bills on their way.

Reads only; each figure is one small query, and each names the list that it leads to.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from django.db.models import Count, Max, Sum
from django.utils import timezone

from accounts.models import Organisation
from billing.models import CreditsCheck, Invoice, StripeEvent, StripeInvoice, Subscription
from billing.models.invoices import InvoiceState
from billing.models.stripe_mirror import PushState
from billing.money import format_exact, format_money
from billing.owed import owed_to_those_who_left
from billing.schedules import period_containing
from billing.unpriced import count_unpriced_models
from metering import aggregation
from metering.leaked_holds import Report, leaked_holds
from metering.models import CountersCheck, IngestBatch, RejectedEvent, TotalsCheck

DAY = timedelta(days=1)
# Totals older than this are worth a look: folding normally takes seconds.
WORRYING_LAG = 30.0
# Totals are compared every night; a comparison older than this means that one was missed.
COMPARED_WITHIN = timedelta(hours=36)
# A webhook is applied within seconds; one that waits this long does not get through.
STUCK_AFTER = timedelta(minutes=10)
MOST_ENDED = 8
MOST_SUBSCRIPTIONS = 500

type Mood = Literal["good", "warn", "bad", "plain"]


@dataclass(frozen=True, slots=True)
class Gauge:
    """One figure: what it is, how it stands, a note, and the admin list behind it."""

    label: str
    value: str
    note: str
    mood: Mood = "plain"
    # Name of the admin's address, with a query; empty: no list.
    target: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class EndedPeriod:
    """A subscription whose last period has ended and is not closed."""

    subscription: Subscription
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Cockpit:
    usage: tuple[Gauge, ...]
    money: tuple[Gauge, ...]
    ended: tuple[EndedPeriod, ...]


def cockpit(now: datetime | None = None) -> Cockpit:
    now = now or timezone.now()
    return Cockpit(
        usage=(_events(now), _lag(now), _rejected(), _unmatched(now), _totals_check(now), *_admission(now)),
        money=(
            _unpriced(now),
            _pushing(),
            _open_invoices(now),
            _issued(now),
            _stripe_inbox(now),
            _owed(),
            _credits(now),
            _organisations(),
        ),
        ended=tuple(_ended(now)),
    )


def _events(now: datetime) -> Gauge:
    since = IngestBatch.objects.filter(received_at__gte=now - DAY)
    count = since.aggregate(events=Sum("event_count"))["events"] or 0
    return Gauge("Events received", f"{count:,}", "in the last 24 hours", target="metering_ingestbatch_changelist")


def _lag(now: datetime) -> Gauge:
    lag = aggregation.lag(now)
    mood: Mood = "warn" if lag.oldest_seconds > WORRYING_LAG else "good"
    note = f"{lag.pending_events:,} events are waiting" if lag.pending_events else "every event is counted"
    return Gauge("Totals are behind by", f"{lag.oldest_seconds:.0f} s", note, mood, "metering_ingestbatch_changelist")


def _rejected() -> Gauge:
    count = RejectedEvent.objects.filter(state=RejectedEvent.State.OPEN).count()
    return Gauge(
        "Rejected events",
        f"{count:,}",
        "to repair or to dismiss" if count else "nothing to repair",
        "warn" if count else "good",
        "metering_rejectedevent_changelist",
        "state__exact=open",
    )


def _unmatched(now: datetime) -> Gauge:
    since = IngestBatch.objects.filter(received_at__gte=now - DAY)
    count = since.aggregate(events=Sum("unmatched_count"))["events"] or 0
    note = "accepted, but no meter reads them" if count else "every event fed a meter, last 24 hours"
    return Gauge("Unmatched events", f"{count:,}", note, "warn" if count else "good", "metering_ingestbatch_changelist")


def _totals_check(now: datetime) -> Gauge:
    last = TotalsCheck.objects.first()
    if last is None:
        return Gauge("Totals against events", "–", "compared every night; not yet", "plain")
    is_stale = last.finished_at < now - COMPARED_WITHIN
    mood: Mood = "bad" if last.differences else "warn" if is_stale else "good"
    value = f"{last.differences:,} differences" if last.differences else "equal"
    return Gauge(
        "Totals against events",
        value,
        f"compared {last.finished_at:%d %b, %H:%M} UTC" + (", and not since" if is_stale else ""),
        mood,
        "metering_totalscheck_changelist",
    )


def _admission(now: datetime) -> tuple[Gauge, Gauge]:
    """Holds whose call nobody reported in time, and whether counters of limits are right."""
    leaked = leaked_holds(report=Report.NONE).filter(ended_at__gte=now - DAY).count()
    note = "admitted calls that nobody reported, last 24 hours" if leaked else "every admitted call was reported"
    mood: Mood = "warn" if leaked else "good"
    holds = Gauge("Leaked holds", f"{leaked:,}", note, mood, "metering_quota_leaked_holds", "report=none")
    last = CountersCheck.objects.first()
    if last is None:
        return holds, Gauge("Limits against events", "–", "compared every night; not yet")
    value = f"{last.differences:,} differences" if last.differences else "equal"
    note = f"compared {last.finished_at:%d %b, %H:%M} UTC"
    mood, target = ("bad", "recompute") if last.differences else ("good", "changelist")
    return holds, Gauge("Limits against events", value, note, mood, f"metering_counterscheck_{target}")


def _unpriced(now: datetime) -> Gauge:
    count = count_unpriced_models(now)
    return Gauge(
        "Used without a price",
        f"{count:,}",
        "kinds of usage that nobody is charged for" if count else "everything that plans charge has a price",
        "warn" if count else "good",
        "billing_price_unpriced",
    )


def _pushing() -> Gauge:
    states = dict(StripeInvoice.objects.values_list("state").annotate(count=Count("pk")).order_by())
    stuck = states.get(PushState.MISMATCH, 0) + states.get(PushState.REFUSED, 0)
    waiting = states.get(PushState.WAITING, 0)
    note = f"{stuck} stopped: a person must look" if stuck else f"{waiting} on their way to Stripe"
    mood: Mood = "bad" if stuck else "good"
    return Gauge("Invoices to push", f"{waiting + stuck:,}", note, mood, "billing_stripeinvoice_changelist")


def _open_invoices(now: datetime) -> Gauge:
    unpaid = Invoice.objects.filter(state=InvoiceState.PUSHED)
    overdue = unpaid.filter(due_at__lt=now).count()
    return Gauge(
        "Open invoices",
        f"{unpaid.count():,}",
        f"{overdue} overdue" if overdue else "none overdue",
        "warn" if overdue else "good",
        "billing_invoice_changelist",
        "state__exact=pushed",
    )


def _issued(now: datetime) -> Gauge:
    issued = Invoice.objects.filter(finalised_at__gte=now - 30 * DAY).exclude(state=InvoiceState.VOID)
    sums = issued.values_list("currency").annotate(total=Sum("total_minor")).order_by("currency")
    text = ", ".join(format_money(total, currency) for currency, total in sums) or "nothing"
    return Gauge("Invoiced", text, "in the last 30 days", target="billing_invoice_changelist")


def _stripe_inbox(now: datetime) -> Gauge:
    waiting = StripeEvent.objects.filter(handled_at=None, received_at__lt=now - STUCK_AFTER).count()
    return Gauge(
        "Webhooks stuck",
        f"{waiting:,}",
        "received and not applied" if waiting else "all applied",
        "bad" if waiting else "good",
        "billing_stripeevent_changelist",
    )


def _owed() -> Gauge:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for currency, left in owed_to_those_who_left().values_list("currency", "left"):
        sums[currency] += left
    value = ", ".join(format_exact(sums[currency], currency) for currency in sorted(sums)) or "nothing"
    note = "paid for and not used: to be paid back" if sums else "nobody left with credit they paid for"
    mood: Mood = "warn" if sums else "good"
    return Gauge("Owed to customers who left", value, note, mood, "billing_creditgrant_changelist", "owed=left")


def _credits(now: datetime) -> Gauge:
    last = CreditsCheck.objects.first()
    if last is None:
        return Gauge("Credit against invoices", "–", "added up every night; not yet")
    is_stale = last.finished_at < now - COMPARED_WITHIN
    value = f"{last.differences:,} differences" if last.differences else "equal"
    note = f"added up {last.finished_at:%d %b, %H:%M} UTC" + (", and not since" if is_stale else "")
    mood: Mood = "bad" if last.differences else "warn" if is_stale else "good"
    return Gauge("Credit against invoices", value, note, mood, "billing_creditscheck_changelist")


def _organisations() -> Gauge:
    count, subscribed = Organisation.objects.count(), Subscription.objects.current().count()
    return Gauge("Organisations", f"{count:,}", f"{subscribed:,} on a plan", target="accounts_organisation_changelist")


def _ended(now: datetime) -> list[EndedPeriod]:
    """The first few periods that wait to be closed; longest ended first."""
    current: Any = Subscription.objects.current().select_related("organisation")
    current = current.annotate(closed=Max("invoices__period_end"))
    found = []
    for subscription in current[:MOST_SUBSCRIPTIONS]:
        period = period_containing(subscription, subscription.closed or subscription.anchor_at)
        if period.end <= now:
            found.append(EndedPeriod(subscription, period.start, period.end))
    return sorted(found, key=lambda ended: ended.end)[:MOST_ENDED]
