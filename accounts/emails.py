"""The e-mails of accounts. Sent after the commit by the edge that caused them; a failure is told to the user there."""

from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.models import Invitation


def send_invitation(invitation: Invitation, token: str) -> None:
    """The link that makes its reader a member. `token` is not kept anywhere else."""
    link = settings.SITE_URL + reverse("accounts:invitation_accept", args=[token])
    context = {"invitation": invitation, "link": link}
    send("invitation", invitation.email, context)


def send(name: str, to: str, context: dict[str, Any]) -> None:
    """Render emails/accounts/<name>_subject.txt, .txt and .html and send them as one message."""
    message(name, to, context).send()


def message(name: str, to: str, context: dict[str, Any]) -> EmailMultiAlternatives:
    """An unsent message from our templates."""
    base = f"emails/accounts/{name}"
    context = {"site_url": settings.SITE_URL, **context}
    subject = " ".join(render_to_string(f"{base}_subject.txt", context).split())
    mail = EmailMultiAlternatives(subject, render_to_string(f"{base}.txt", context), to=[to])
    mail.attach_alternative(render_to_string(f"{base}.html", context), "text/html")
    return mail
