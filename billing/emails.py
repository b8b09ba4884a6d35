"""The e-mails billing sends, as text and as HTML. Composes and sends; knows nothing of retries."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from billing.models import CreditPurchase, Invoice, Plan, Subscription


def send_invoice_announcement(invoice: Invoice, address: str) -> None:
    """Number, total, due date and the way to the invoice. Raises OSError when the mail server does not take it."""
    path = reverse("billing:invoice", kwargs={"slug": invoice.organisation.slug, "number": invoice.number})
    context = {"invoice": invoice, "zone": invoice.subscription.zone, "invoice_url": settings.SITE_URL + path}
    _send("invoice", context, address)


def send_trial_reminder(subscription: Subscription, plan: Plan, address: str) -> None:
    """When the trial ends and what comes then. Raises OSError when the mail server does not take it."""
    organisation = subscription.organisation
    path = reverse("billing:plan", kwargs={"slug": organisation.slug})
    context = {
        "subscription": subscription,
        "organisation": organisation,
        "plan": plan,
        "zone": subscription.zone,
        "plan_url": settings.SITE_URL + path,
    }
    _send("trial", context, address)


def send_plan_move_notice(subscription: Subscription, plan: Plan, starts_at: datetime, address: str) -> None:
    """From when on another plan holds. Raises OSError when the mail server does not take it."""
    organisation = subscription.organisation
    path = reverse("billing:plan", kwargs={"slug": organisation.slug})
    context = {
        "organisation": organisation,
        "plan": plan,
        "starts_at": starts_at,
        "zone": subscription.zone,
        "plan_url": settings.SITE_URL + path,
    }
    _send("plan_move", context, address)


def send_receipt(purchase: CreditPurchase, address: str) -> None:
    """For credit that was paid. Raises OSError when the mail server does not take it."""
    organisation = purchase.organisation
    path = reverse("billing:credit_purchase", kwargs={"slug": organisation.slug, "public_id": purchase.public_id})
    context = {
        "purchase": purchase,
        "organisation": organisation,
        "zone": organisation.zone,
        "receipt_url": settings.SITE_URL + path,
    }
    _send("receipt", context, address)


def _send(name: str, context: dict[str, Any], address: str) -> None:
    subject = " ".join(render_to_string(f"emails/billing/{name}_subject.txt", context).split())
    message = EmailMultiAlternatives(subject, render_to_string(f"emails/billing/{name}.txt", context), to=[address])
    message.attach_alternative(render_to_string(f"emails/billing/{name}.html", context), "text/html")
    message.send()
