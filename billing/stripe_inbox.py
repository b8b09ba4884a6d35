"""Stripe's events: stored once under their id, answered at once, applied later by looking at the object itself.

The order in which events arrive, how often, and which of them never do makes no difference: each one only says which
invoice or purchase to look at, and an hourly sweep asks Stripe for what was not delivered.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F, Q

from billing import stripe_gateway as stripe
from billing.models import CreditPurchase, StripeEvent, StripeInvoice
from billing.stripe_sync import refresh_invoice
from billing.top_ups import check_purchase, check_refunds

logger = logging.getLogger(__name__)

# What moves an invoice of ours. Endpoints at Stripe should subscribe to these.
EVENT_TYPES = (
    "invoice.finalized",
    "invoice.finalization_failed",
    "invoice.sent",
    "invoice.updated",
    "invoice.paid",
    "invoice.overpaid",
    "invoice.overdue",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.voided",
    "invoice.marked_uncollectible",
    "invoice.deleted",
    "invoice_payment.paid",
)
# What moves a purchase of credit.
CHECKOUT_TYPES = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
)
REFUND_TYPES = ("charge.refunded", "refund.updated")
# Stripe takes at most 20 types in one list.
ALL_TYPES = (*EVENT_TYPES, *CHECKOUT_TYPES, *REFUND_TYPES)
# A webhook may overtake our own commit: look again this often before deciding that the invoice is not ours.
MOST_TRIES = 8
MOST_PER_SWEEP = 500
# Stripe keeps events for 30 days; three cover any outage that nobody noticed over a weekend.
LOOK_BACK = timedelta(days=3)
OVERLAP = timedelta(hours=2)


def store_event(event: stripe.RemoteEvent) -> bool:
    """Put an event into the inbox; False if it was there already."""
    _, created = StripeEvent.objects.get_or_create(
        id=event.id,
        defaults={
            "type": event.type,
            "created_at": event.created_at,
            "object_id": _object_id(event),
            "payload": event.payload,
        },
    )
    return created


def apply_event(event_id: str, *, now: datetime) -> StripeEvent | None:
    """Apply one stored event; None if it is handled already. Safe to run twice at once."""
    event = StripeEvent.objects.filter(pk=event_id, handled_at=None).first()
    if event is None:
        return None
    event.tries = F("tries") + 1
    event.save(update_fields=["tries"])
    event.refresh_from_db(fields=["tries"])
    try:
        event.error = _apply(event, now)
        event.handled_at = now
    except (stripe.TemporaryFailure, _NotOursYet) as reason:
        event.error = str(reason)
    except stripe.Refused as refusal:
        event.error, event.handled_at = str(refusal), now
        logger.error("Event %s could not be applied: %s", event.pk, refusal)
    event.save(update_fields=["error", "handled_at"])
    return event


def apply_unhandled(*, now: datetime, limit: int = MOST_PER_SWEEP) -> int:
    """Apply what waits in the inbox, oldest first; returns how many were handled."""
    waiting = StripeEvent.objects.filter(handled_at=None).order_by("received_at").values_list("pk", flat=True)[:limit]
    applied = [apply_event(event_id, now=now) for event_id in list(waiting)]
    return sum(1 for event in applied if event is not None and event.handled_at is not None)


def fetch_missed(*, now: datetime) -> int:
    """Ask Stripe for events that were never delivered and put them into the inbox; returns how many were new."""
    if not stripe.is_configured():
        return 0
    newest = StripeEvent.objects.order_by("-created_at").values_list("created_at", flat=True).first()
    since = max(newest - OVERLAP, now - LOOK_BACK) if newest else now - LOOK_BACK
    return sum(store_event(event) for event in stripe.list_events(since=since, types=ALL_TYPES))


class _NotOursYet(Exception):
    """The event's invoice is not known here, but might be in a moment."""


def _apply(event: StripeEvent, now: datetime) -> str:
    """Do what the event asks for; returns a remark, empty when there is nothing to say."""
    if event.type in CHECKOUT_TYPES:
        return _apply_to_purchase(event, now)
    if event.type in REFUND_TYPES:
        return _apply_refund(event, now)
    if event.type not in EVENT_TYPES:
        return "Not about an invoice's state."
    push = StripeInvoice.objects.filter(environment=settings.STRIPE_ENVIRONMENT, stripe_id=event.object_id).first()
    if push is not None:
        refresh_invoice(push.pk, now=now)
        return ""
    if _names_an_invoice_of_ours(event) and event.tries < MOST_TRIES:
        raise _NotOursYet("The invoice is not linked to Stripe yet.")
    return "No invoice of ours."


def _apply_to_purchase(event: StripeEvent, now: datetime) -> str:
    """By the session, or by our own id in it where the answer that named the session never came."""
    named = (_about(event.payload).get("metadata") or {}).get("kilotoken_purchase", "")
    rows = CreditPurchase.objects.filter(environment=settings.STRIPE_ENVIRONMENT)
    found = rows.filter(Q(stripe_id=event.object_id) | Q(stripe_id=None, public_id=named)).first()
    if found is None:
        return "No purchase of ours."
    check_purchase(found.pk, now=now, session=event.object_id)
    return ""


def _apply_refund(event: StripeEvent, now: datetime) -> str:
    rows = CreditPurchase.objects.filter(environment=settings.STRIPE_ENVIRONMENT)
    found = rows.filter(payment_intent=event.object_id).first() if event.object_id else None
    if found is None:
        return "Not of a purchase of ours."
    check_refunds(found.pk, now=now)
    return ""


def _names_an_invoice_of_ours(event: StripeEvent) -> bool:
    number = (_about(event.payload).get("metadata") or {}).get("kilotoken_invoice")
    return bool(number) and StripeInvoice.objects.filter(invoice__number=number, stripe_id=None).exists()


def _object_id(event: stripe.RemoteEvent) -> str:
    """What an event is about: the object itself, or the invoice or the payment that it names."""
    if event.type.startswith("invoice_payment."):
        return str(_about(event.payload).get("invoice") or "")
    if event.type in REFUND_TYPES:
        return str(_about(event.payload).get("payment_intent") or "")
    return event.object_id


def _about(payload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = payload.get("data", {}).get("object", {})
    return found
