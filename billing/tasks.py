"""Alarm clocks of billing: each wakes one verb. All are safe to run twice at once and late."""

from celery import shared_task
from django.utils import timezone

from billing import stripe_inbox, stripe_sync


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
