"""Closing periods: a bill becomes an invoice with a number, frozen lines and evidence.

Each period is closed once, in order, by whoever comes first; numbers have no gap, since the counter's row stays locked
until the invoice commits. Nothing is sent from here: rows for Stripe and for e-mail are left in the same transaction.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from billing import schedules
from billing.adjustments import adjustments_for, carried_in, carried_out, still_adjustable
from billing.bills import Bill, BillLine, build_bill, with_line
from billing.evidence import decimal, evidence_of
from billing.models import (
    Invoice,
    InvoiceCounter,
    InvoiceEmail,
    InvoiceLine,
    StripeInvoice,
    Subscription,
)
from billing.models.invoices import InvoiceState
from billing.models.subscriptions import SubscriptionState
from billing.periods import Period
from billing.subscribing import ensure_billing_details
from metering import reports
from metering.sealing import newest_seal

logger = logging.getLogger(__name__)

BATCH = 200


class PeriodNotEnded(DomainError):
    code = "period_not_ended"
    sentence = "This period has not ended yet."


class StillInGrace(DomainError):
    code = "still_in_grace"
    sentence = "The period has ended, but late events are still waited for."


class UnfoldedEvents(DomainError):
    code = "unfolded_events"
    sentence = "Some events of this period are accepted but not counted yet. Try again in a moment."


class EarlierPeriodOpen(DomainError):
    code = "earlier_period_open"
    sentence = "An earlier period has to be closed first."


class NothingToClose(DomainError):
    code = "nothing_to_close"
    sentence = "Every period of this subscription is closed."


@dataclass(slots=True)
class Closed:
    """What one sweep did."""

    invoices: list[Invoice] = field(default_factory=list)
    # Public ids of subscriptions whose period could not be closed yet, with the reason's code.
    waiting: dict[str, str] = field(default_factory=dict)
    # Public ids of subscriptions where something broke; the log says what.
    failed: list[str] = field(default_factory=list)


def running_bill(subscription: Subscription, now: datetime, *, period: Period | None = None) -> Bill:
    """The bill of the current period (or another open one) as it stands: what closing would make of it now.

    What earlier invoices left over stands on the earliest period without an invoice, and only there.
    """
    subscription = schedules.with_terms(subscription)
    period = period or schedules.current_period(subscription, now)
    if period != schedules.earliest_open_period(subscription):
        return build_bill(subscription, period, cutoff=now)
    adjustments = adjustments_for(subscription)
    return build_bill(
        subscription,
        period,
        cutoff=now,
        opening=carried_in(subscription),
        adjustments=adjustments.lines,
        rated_again=adjustments.rated_again,
    )


def close_period(
    subscription: Subscription,
    *,
    period: Period | None = None,
    now: datetime,
    force_grace: bool = False,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Invoice:
    """Finalise the earliest open period. A named period that is closed already answers with its invoice.

    Raises PeriodNotEnded, StillInGrace (unless `force_grace`), UnfoldedEvents, EarlierPeriodOpen and NothingToClose.
    """
    with transaction.atomic():
        locked = _lock(subscription)
        existing = _invoice_of(locked, period)
        if existing is not None:
            return existing
        to_close = require_closable(locked, period=period, now=now, force_grace=force_grace)
        invoice = _finalise(locked, bill_to_close(locked, to_close, now), now)
        if not schedules.goes_on_after(locked, to_close):
            locked.state = SubscriptionState.CANCELLED
            locked.save(update_fields=["state"])
        _record(invoice, actor=actor, request=request)
    return invoice


def bill_to_close(subscription: Subscription, period: Period, now: datetime) -> Bill:
    """The running bill as closing would freeze it: what is too small to charge is carried over."""
    bill = running_bill(subscription, now, period=period)
    return with_line(bill, carried_out(bill)) if bill.is_too_small else bill


def require_closable(
    subscription: Subscription, *, period: Period | None = None, now: datetime, force_grace: bool = False
) -> Period:
    """The earliest open period, if it can be closed now; raises what `close_period` raises. Changes nothing."""
    earliest = schedules.earliest_open_period(subscription)
    if earliest is None:
        raise NothingToClose
    if period is not None and period != earliest:
        raise EarlierPeriodOpen if period.start > earliest.start else NothingToClose
    if now < earliest.end:
        raise PeriodNotEnded
    if not force_grace and now < earliest.end + grace():
        raise StillInGrace
    reach_back = min([earliest.start, *(invoice.period_start for invoice in still_adjustable(subscription))])
    if reports.pending_events(subscription.organisation, start=reach_back, end=earliest.end) > 0:
        raise UnfoldedEvents
    return earliest


def close_ended(now: datetime) -> Closed:
    """Close every period that can be closed, of every subscription; one that fails does not stop the others."""
    closed = Closed()
    for subscription in _open_subscriptions():
        _close_ended_periods(subscription, now, closed)
    return closed


def grace() -> timedelta:
    return timedelta(seconds=settings.CLOSING_GRACE_SECONDS)


def _close_ended_periods(subscription: Subscription, now: datetime, closed: Closed) -> None:
    try:
        while (period := schedules.earliest_open_period(subscription)) and period.end + grace() <= now:
            closed.invoices.append(close_period(subscription, period=period, now=now))
    except DomainError as error:
        closed.waiting[subscription.public_id] = error.code
    except Exception:
        logger.exception("Closing a period of subscription %s failed", subscription.public_id)
        closed.failed.append(subscription.public_id)


def _open_subscriptions() -> Iterator[Subscription]:
    """Those with periods left, in batches by primary key, so that no cursor stays open while periods are closed."""
    with_periods_left = (
        Subscription.objects.annotate(closed_until=Max("invoices__period_end"))
        .exclude(ends_at__lte=F("closed_until"))
        .select_related("organisation")
        .order_by("pk")
    )
    last = 0
    while batch := list(with_periods_left.filter(pk__gt=last)[:BATCH]):
        yield from batch
        last = batch[-1].pk


def _lock(subscription: Subscription) -> Subscription:
    """Locks all of the organisation's subscriptions, in order: a carried amount is taken up by one invoice only."""
    rows = (
        Subscription.objects.for_organisation(subscription.organisation)
        .select_for_update(of=("self",))
        .select_related("organisation")
        .order_by("pk")
    )
    return next(row for row in rows if row.pk == subscription.pk)


def _invoice_of(subscription: Subscription, period: Period | None) -> Invoice | None:
    if period is None:
        return None
    return Invoice.objects.filter(subscription=subscription, period_start=period.start).first()


def _finalise(subscription: Subscription, bill: Bill, now: datetime) -> Invoice:
    parties = _parties(subscription)
    is_paid = bill.total_minor == 0
    evidence = evidence_of(bill, parties=parties, head=newest_seal(subscription.organisation))
    invoice = Invoice.objects.create(
        organisation=subscription.organisation,
        number=_next_number(now),
        subscription=subscription,
        plan_name=bill.version.plan.name,
        period_start=bill.period.start,
        period_end=bill.period.end,
        currency=bill.currency,
        total_exact=bill.total_exact,
        total_minor=bill.total_minor,
        parties=parties,
        evidence=evidence,
        finalised_at=now,
        due_at=now + timedelta(days=settings.PAYMENT_TERM_DAYS),
        state=InvoiceState.PAID if is_paid else InvoiceState.FINALISED,
        paid_at=now if is_paid else None,
    )
    InvoiceLine.objects.bulk_create(
        [_line_row(invoice, position, line) for position, line in enumerate(bill.lines, start=1)]
    )
    if not is_paid:
        StripeInvoice.objects.create(invoice=invoice, environment=settings.STRIPE_ENVIRONMENT)
    InvoiceEmail.objects.create(invoice=invoice)
    return invoice


def _next_number(now: datetime) -> str:
    """The next number of the year, in UTC. Its row stays locked until the transaction ends, so none is ever skipped."""
    series = f"{settings.INVOICE_NUMBER_PREFIX}-{now.astimezone(UTC).year}"
    InvoiceCounter.objects.get_or_create(series=series)
    counter = InvoiceCounter.objects.select_for_update().get(series=series)
    counter.last_number += 1
    counter.save(update_fields=["last_number"])
    return f"{series}-{counter.last_number:05d}"


def _parties(subscription: Subscription) -> dict[str, Any]:
    buyer = ensure_billing_details(subscription.organisation)
    return {
        "seller": {"name": settings.SELLER_NAME, "address": settings.SELLER_ADDRESS},
        "buyer": {
            "name": buyer.legal_name,
            "organisation": subscription.organisation.public_id,
            "email": buyer.email,
            "address": buyer.address,
            "country": buyer.country,
            "tax_id": buyer.tax_id,
        },
    }


def _line_row(invoice: Invoice, position: int, line: BillLine) -> InvoiceLine:
    return InvoiceLine(
        invoice=invoice,
        position=position,
        kind=line.kind,
        key=line.key,
        description=line.description[:400],
        meter=line.meter,
        model=line.model[:200],
        quantity=line.quantity,
        included=line.included,
        billable=line.billable,
        unit_price=line.unit_price,
        scale=line.scale,
        amount_exact=line.amount_exact,
        amount_minor=line.amount_minor,
        explanation=line.explanation,
        steps=[
            {
                "units": decimal(step.units),
                "unit_price": decimal(step.unit_price),
                "scale": decimal(step.scale),
                "flat": decimal(step.flat),
                "amount": decimal(step.amount),
                "explanation": step.explanation,
            }
            for step in line.steps
        ],
        price_ids=list(line.price_ids),
        period_start=line.period.start,
        period_end=line.period.end,
    )


def _record(invoice: Invoice, *, actor: Actor, request: HttpRequest | None) -> None:
    record(
        "invoice.finalised",
        organisation=invoice.organisation,
        actor=actor,
        subject_id=invoice.public_id,
        subject_label=invoice.number,
        details={
            "period_start": invoice.period_start.isoformat(),
            "period_end": invoice.period_end.isoformat(),
            "total_minor": invoice.total_minor,
            "currency": invoice.currency,
        },
        request=request,
    )
