"""Correcting what closed periods were charged by: the only way in which a row that became known later changes the past.

An operator names a time and says why; every invoice to which today's price book makes a difference is noted, and the
next invoice of its subscription carries the difference as adjustments. Invoices themselves never change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from accounts.remembering import remembering
from billing import schedules
from billing.adjustments import charged_lines_of_all, differences_of
from billing.models import CorrectedInvoice, Invoice, PriceCorrection, Subscription
from billing.models.invoices import InvoiceState
from billing.money import exact_sum, plain
from billing.price_book import book_known_at
from billing.rated_usage import rate_period


class NothingToCorrect(DomainError):
    code = "nothing_to_correct"
    sentence = "Today's price book makes no difference to any invoice of that time."


class ReasonMissing(DomainError):
    code = "reason_missing"
    sentence = "Say why the past is corrected: customers will ask."


@dataclass(frozen=True, slots=True)
class Difference:
    """What today's book makes of one closed period, less what was charged for it so far."""

    subscription: Subscription
    invoice: schedules.PostedInvoice
    newest: schedules.PostedInvoice
    amount: Decimal
    # In words, a sentence per line.
    explanations: tuple[str, ...]
    # False: the subscription is over, so that no invoice will carry the difference.
    will_be_billed: bool


def differences(start: datetime, end: datetime, organisation: Organisation | None = None) -> Iterator[Difference]:
    """What a correction of [start, end) would change, invoice by invoice. Changes nothing."""
    with remembering():
        for subscription in _subscriptions(start, end, organisation).iterator(chunk_size=200):
            yield from _differences_of(schedules.with_terms(subscription), start, end)


def correct_prices(
    start: datetime,
    end: datetime,
    *,
    reason: str,
    now: datetime,
    organisation: Organisation | None = None,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> PriceCorrection:
    """Note every invoice that today's book makes a difference to. Raises NothingToCorrect and ReasonMissing."""
    if not reason.strip():
        raise ReasonMissing
    with remembering(anew=True), transaction.atomic():
        _lock(start, end, organisation)
        known_at = book_known_at()
        found = list(differences(start, end, organisation))
        if not found or known_at is None:
            raise NothingToCorrect
        correction = PriceCorrection.objects.create(
            organisation=organisation, starts_at=start, ends_at=end, known_at=known_at, made_at=now, reason=reason
        )
        CorrectedInvoice.objects.bulk_create(
            CorrectedInvoice(
                correction=correction, invoice_id=one.invoice.pk, after_id=one.newest.pk, difference=one.amount
            )
            for one in found
        )
        _record(correction, len(found), actor=actor, request=request)
    return correction


def _differences_of(subscription: Subscription, start: datetime, end: datetime) -> Iterator[Difference]:
    invoices, charged = schedules.invoices_of(subscription), charged_lines_of_all(subscription)
    void = set(Invoice.objects.filter(subscription=subscription, state=InvoiceState.VOID).values_list("pk", flat=True))
    goes_on = schedules.earliest_open_period(subscription) is not None
    for invoice in invoices:
        if invoice.period.end <= start or invoice.period.start >= end or invoice.pk in void:
            continue
        lines = differences_of(invoice, rate_period(subscription, invoice.period, fees_due=False), charged)
        if lines:
            amount = plain(exact_sum(line.amount_exact for line in lines))
            sentences = tuple(f"{line.description}: {line.explanation}" for line in lines)
            yield Difference(subscription, invoice, invoices[-1], amount, sentences, goes_on)


def _subscriptions(start: datetime, end: datetime, organisation: Organisation | None) -> Any:
    rows = Subscription.objects.filter(invoices__period_start__lt=end, invoices__period_end__gt=start)
    if organisation is not None:
        rows = rows.filter(organisation=organisation)
    return rows.distinct().order_by("pk")


def _lock(start: datetime, end: datetime, organisation: Organisation | None) -> None:
    """No period of these is closed meanwhile: the next invoice either knows of the correction or comes before it."""
    owners = _subscriptions(start, end, organisation).values_list("organisation", flat=True)
    rows = Subscription.objects.filter(organisation__in=set(owners)).order_by("pk").select_for_update()
    list(rows.values_list("pk"))


def _record(correction: PriceCorrection, count: int, *, actor: Actor, request: HttpRequest | None) -> None:
    record(
        "price_correction.made",
        organisation=correction.organisation,
        actor=actor,
        subject_id=correction.public_id,
        subject_label=correction.reason,
        details={
            "starts_at": correction.starts_at.isoformat(),
            "ends_at": correction.ends_at.isoformat(),
            "known_at": correction.known_at.isoformat(),
            "invoices": count,
        },
        request=request,
    )
