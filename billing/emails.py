"""The one e-mail billing sends: a new invoice, as text and as HTML. Composes and sends; knows nothing of retries."""

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from billing.models import Invoice


def send_invoice_announcement(invoice: Invoice, address: str) -> None:
    """Number, total, due date and the way to the invoice. Raises OSError when the mail server does not take it."""
    path = reverse("billing:invoice", kwargs={"slug": invoice.organisation.slug, "number": invoice.number})
    context = {"invoice": invoice, "zone": invoice.subscription.zone, "invoice_url": settings.SITE_URL + path}
    subject = " ".join(render_to_string("emails/billing/invoice_subject.txt", context).split())
    message = EmailMultiAlternatives(subject, render_to_string("emails/billing/invoice.txt", context), to=[address])
    message.attach_alternative(render_to_string("emails/billing/invoice.html", context), "text/html")
    message.send()
