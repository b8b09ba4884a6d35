"""Finalising: bills become invoices with numbers, frozen lines and evidence, any number of them in one transaction.

Numbers have no gap, since the counter's row stays locked until the invoices commit; so bills are computed before it is
taken. Credit is booked as the bills draw on it; whoever computed them has locked the grants. Nothing is sent from here:
rows for Stripe and for e-mail are left in the same transaction.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from accounts.audit import Actor, record, record_all
from accounts.copying import copy_rows, copy_values
from accounts.models import AuditEntry, Organisation
from accounts.prepared import as_array
from billing import rating
from billing.adjustments import still_adjustable
from billing.bills import Bill
from billing.crediting import book_draws, book_lapses, grant_credit
from billing.evidence import decimal, evidence_of
from billing.models import (
    BillingDetails,
    GrantKind,
    Invoice,
    InvoiceCounter,
    InvoiceEmail,
    InvoiceLine,
    PrepaidTerms,
    StripeInvoice,
    Subscription,
)
from billing.models.invoices import InvoiceState
from billing.models.subscriptions import SubscriptionState
from billing.owed import amount_owed
from billing.payers import parties_of
from billing.schedules import goes_on_after
from billing.subscribing import ensure_billing_details
from billing.unchanged import note_billed, rated_by
from metering.models import Seal
from metering.sealing import newest_seals

LINE_TABLE = InvoiceLine._meta.db_table
LINE_COLUMNS = (
    *("invoice_id", "position", "kind", "key", "description", "meter", "model", "quantity", "included", "billable"),
    *("unit_price", "scale", "amount_exact", "amount_minor", "explanation", "steps", "price_ids", "period_start"),
    "period_end",
)


@dataclass(frozen=True, slots=True)
class Closing:
    """A locked subscription and the bill of the period that is being closed."""

    subscription: Subscription
    bill: Bill


def finalise(
    closings: Sequence[Closing], now: datetime, *, actor: Actor = None, request: HttpRequest | None = None
) -> list[Invoice]:
    """Post the bills, in their order. The caller's transaction holds the locks on the subscriptions."""
    if not closings:
        return []
    organisations = [closing.subscription.organisation for closing in closings]
    details, seals = _billing_details(organisations), newest_seals(organisations)
    invoices = [
        _invoice(closing, now, buyer=details[organisation.pk], head=seals.get(organisation.pk))
        for closing, organisation in zip(closings, organisations, strict=True)
    ]
    with transaction.atomic():
        _number(invoices, now)
        copy_rows(invoices)
        copy_values(LINE_TABLE, LINE_COLUMNS, _lines(invoices, closings))
        book_lapses((closing.bill.lapses for closing in closings), now)
        book_draws(zip(invoices, (closing.bill.draws for closing in closings), strict=True), now)
        owed = [invoice for invoice in invoices if invoice.state == InvoiceState.FINALISED]
        copy_rows([StripeInvoice(invoice=invoice, environment=settings.STRIPE_ENVIRONMENT) for invoice in owed])
        copy_rows([InvoiceEmail(invoice=invoice) for invoice in invoices])
        # What they may spend follows with the next sweep: a bill that is closed never makes it less.
        PrepaidTerms.objects.filter(organisation__in=organisations).update(told_at=None)
        note_billed((closing.subscription, closing.bill) for closing in closings)
        _end(closings)
        _keep_what_is_owed(invoices, closings, now)
        _record(invoices, actor=actor, request=request)
    return invoices


def _billing_details(organisations: Sequence[Organisation]) -> dict[int, BillingDetails]:
    found = {row.organisation_id: row for row in BillingDetails.objects.filter(organisation__in=organisations)}
    missing = [organisation for organisation in organisations if organisation.pk not in found]
    return found | {organisation.pk: ensure_billing_details(organisation) for organisation in missing}


def _invoice(closing: Closing, now: datetime, *, buyer: BillingDetails, head: Seal | None) -> Invoice:
    """The row but for its number."""
    subscription, bill = closing.subscription, closing.bill
    parties = parties_of(subscription.organisation, buyer)
    is_paid = bill.total_minor == 0
    return Invoice(
        organisation=subscription.organisation,
        subscription=subscription,
        plan_name=bill.version.plan.name,
        period_start=bill.period.start,
        period_end=bill.period.end,
        currency=bill.currency,
        total_exact=bill.total_exact,
        total_minor=bill.total_minor,
        parties=parties,
        evidence=evidence_of(bill, parties=parties, head=head),
        prices_known_at=bill.rated[0].known_at,
        rated_by=rated_by(subscription, bill, still_adjustable(subscription)),
        finalised_at=now,
        due_at=now + timedelta(days=settings.PAYMENT_TERM_DAYS),
        state=InvoiceState.PAID if is_paid else InvoiceState.FINALISED,
        paid_at=now if is_paid else None,
    )


def _number(invoices: Sequence[Invoice], now: datetime) -> None:
    """Give out the next numbers of the year, in UTC. Its row stays locked until the transaction ends, so none is ever
    skipped."""
    series = f"{settings.INVOICE_NUMBER_PREFIX}-{now.astimezone(UTC).year}"
    InvoiceCounter.objects.get_or_create(series=series)
    counter = InvoiceCounter.objects.select_for_update().get(series=series)
    for number, invoice in enumerate(invoices, start=counter.last_number + 1):
        invoice.number = f"{series}-{number:05d}"
    counter.last_number += len(invoices)
    counter.save(update_fields=["last_number"])


def _lines(invoices: Sequence[Invoice], closings: Sequence[Closing]) -> Iterator[tuple[Any, ...]]:
    """Values in the order of LINE_COLUMNS. Lines are most of what is written."""
    for invoice, closing in zip(invoices, closings, strict=True):
        for position, line in enumerate(closing.bill.lines, start=1):
            yield (
                invoice.pk,
                position,
                line.kind,
                line.key,
                line.description[:400],
                line.meter,
                line.model[:200],
                line.quantity,
                line.included,
                line.billable,
                line.unit_price,
                line.scale,
                line.amount_exact,
                line.amount_minor,
                line.explanation,
                json.dumps([_step(step) for step in line.steps]) if line.steps else "[]",
                as_array(line.price_ids),
                line.period.start,
                line.period.end,
            )


def _step(step: rating.Step) -> dict[str, str]:
    return {
        "units": decimal(step.units),
        "unit_price": decimal(step.unit_price),
        "scale": decimal(step.scale),
        "flat": decimal(step.flat),
        "amount": decimal(step.amount),
        "explanation": step.explanation,
    }


def _end(closings: Sequence[Closing]) -> None:
    """Subscriptions whose last period this was are over."""
    over = [one.subscription for one in closings if not goes_on_after(one.subscription, one.bill.period)]
    for subscription in over:
        subscription.state = SubscriptionState.CANCELLED
    if over:
        Subscription.objects.bulk_update(over, ["state"])


def _keep_what_is_owed(invoices: Sequence[Invoice], closings: Sequence[Closing], now: datetime) -> None:
    """Last bills below zero become credit, which any later bill can draw on and operators can pay back."""
    for invoice, closing in zip(invoices, closings, strict=True):
        amount = amount_owed(closing.bill)
        if amount is not None:
            reason = f"Owed from invoice {invoice.number}"
            grant_credit(
                invoice.organisation,
                kind=GrantKind.OWED,
                amount=amount,
                currency=invoice.currency,
                reason=reason,
                now=now,
            )


def _record(invoices: Sequence[Invoice], *, actor: Actor, request: HttpRequest | None) -> None:
    entries: list[AuditEntry] = []
    for invoice in invoices:
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
            into=entries,
        )
    record_all(entries)
