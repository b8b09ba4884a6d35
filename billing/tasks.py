"""Alarm clocks of billing: each wakes one verb. All are safe to run twice at once and late."""

import logging
from dataclasses import asdict

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from billing import (
    announcing,
    credit_alerts,
    credit_checks,
    crediting,
    forecasting,
    invoicing,
    margins,
    plan_credits,
    plan_limits,
    plan_moves,
    prepaid,
    price_estimates,
    receipts,
    resting,
    settling,
    stripe_gateway,
    stripe_inbox,
    stripe_sync,
    top_ups,
    trial_reminders,
)
from billing.models import CreditsCheck

logger = logging.getLogger(__name__)

MOST_DETAIL = 100


class ClosingFailed(Exception):
    """Some periods could not be closed because something broke; the log says what."""


@shared_task
def close_ended_periods() -> None:
    """Does nothing where the operator closes periods by hand."""
    if not settings.AUTOMATIC_CLOSING:
        return
    closed = invoicing.close_ended(timezone.now())
    if closed.failed:
        raise ClosingFailed(f"Periods of {len(closed.failed)} subscriptions could not be closed: {closed.failed[:20]}")


@shared_task
def settle_ended_subscriptions() -> None:
    """Does nothing where the operator closes periods by hand."""
    if not settings.AUTOMATIC_CLOSING:
        return
    settled = settling.settle_ended(timezone.now())
    if settled.failed:
        raise ClosingFailed(f"{len(settled.failed)} subscriptions could not be settled: {settled.failed[:20]}")


@shared_task
def write_due_limits() -> None:
    plan_limits.write_due_limits(timezone.now())


@shared_task
def work_on_plan_moves() -> None:
    plan_moves.work_on_moves(timezone.now())


@shared_task
def end_trials() -> None:
    resting.end_trials(timezone.now())


@shared_task
def remind_of_trials() -> None:
    trial_reminders.remind_of_trials(timezone.now())


@shared_task
def announce_invoice(invoice_id: int) -> None:
    announcing.announce_invoice(invoice_id, now=timezone.now())


@shared_task
def announce_invoices() -> None:
    announcing.announce_due(now=timezone.now())


@shared_task
def push_invoice(invoice_id: int) -> None:
    stripe_sync.push_invoice(invoice_id, now=timezone.now())


@shared_task
def push_finalised_invoices() -> None:
    stripe_sync.push_waiting(now=timezone.now())


@shared_task
def apply_stripe_event(event_id: str) -> None:
    stripe_inbox.apply_event(event_id, now=timezone.now())


@shared_task
def apply_stripe_events() -> None:
    stripe_inbox.apply_unhandled(now=timezone.now())


@shared_task
def fetch_missed_stripe_events() -> None:
    stripe_inbox.fetch_missed(now=timezone.now())


@shared_task
def write_price_estimates() -> None:
    price_estimates.write_due_estimates(timezone.now())


@shared_task
def make_forecasts() -> None:
    forecasting.make_forecasts(timezone.now())


@shared_task
def compute_margins() -> None:
    margins.compute_margins(timezone.now())


@shared_task
def expire_credits() -> None:
    crediting.expire_grants(timezone.now())


@shared_task
def tell_credit_limits() -> None:
    prepaid.tell_limits(timezone.now())


@shared_task
def watch_credit() -> None:
    credit_alerts.watch_credit(timezone.now())


@shared_task
def check_credit_purchase(purchase_id: int) -> None:
    try:
        top_ups.check_purchase(purchase_id, now=timezone.now())
    except stripe_gateway.TemporaryFailure:
        return  # the sweep asks again


@shared_task
def check_credit_purchases() -> None:
    top_ups.check_open(now=timezone.now())


@shared_task
def send_receipts() -> None:
    receipts.send_due(now=timezone.now())


@shared_task
def grant_plan_credit() -> None:
    plan_credits.grant_due_credit(timezone.now())


@shared_task
def check_credits() -> None:
    """Add up the ledger of credit; the result is kept as a CreditsCheck and logged when it is bad."""
    started_at = timezone.now()
    findings = credit_checks.check_credits()
    if findings:
        logger.error("%s things in the ledger of credit do not add up: see the credit check.", len(findings))
    CreditsCheck.objects.create(
        started_at=started_at,
        finished_at=timezone.now(),
        differences=len(findings),
        detail=[asdict(one) for one in findings[:MOST_DETAIL]],
    )
