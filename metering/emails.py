"""The one e-mail metering sends: alerts, as text and as HTML. Composes and sends; knows nothing of retries."""

from collections.abc import Sequence

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.models import Organisation
from metering.models import AlertKind, AlertMessage


def send_alerts(organisation: Organisation, address: str, messages: Sequence[AlertMessage]) -> None:
    """All of them in one message. Raises OSError when the mail server does not take it."""
    context = {
        "organisation": organisation,
        "messages": messages,
        "first": messages[0],
        "is_about_credit": any(message.alert.kind == AlertKind.CREDIT for message in messages),
        "credits_url": settings.SITE_URL + reverse("billing:credits", args=[organisation.slug]),
        "limits_url": settings.SITE_URL + reverse("metering:limits", args=[organisation.slug]),
        "alerts_url": settings.SITE_URL + reverse("metering:alerts", args=[organisation.slug]),
        "site_url": settings.SITE_URL,
    }
    subject = " ".join(render_to_string("emails/metering/alerts_subject.txt", context).split())
    message = EmailMultiAlternatives(subject, render_to_string("emails/metering/alerts.txt", context), to=[address])
    message.attach_alternative(render_to_string("emails/metering/alerts.html", context), "text/html")
    message.send()
