"""The e-mails of accounts. Sent after the commit by the edge that caused them; a failure is told to the user there."""

from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.models import AuditEntry, Invitation, User


def send_invitation(invitation: Invitation, token: str) -> None:
    """The link that makes its reader a member. `token` is not kept anywhere else."""
    link = settings.SITE_URL + reverse("accounts:invitation_accept", args=[token])
    context = {"invitation": invitation, "link": link}
    send("invitation", invitation.email, context)


def send_notices(user: User, acts: list[tuple[AuditEntry, str]], *, more: int, is_urgent: bool) -> None:
    """What others did to keys and tokens, each act as its entry and in words; `more` were left out."""
    organisation = acts[0][0].organisation
    context = {
        "user": user,
        "organisation": organisation,
        "acts": [(entry, words, _page_of(entry)) for entry, words in acts],
        "more": more,
        "is_urgent": is_urgent,
        "profile_url": settings.SITE_URL + reverse("accounts:profile"),
    }
    send("key_notices", user.email, context)


def _page_of(entry: AuditEntry) -> str:
    """Where the key or token can be looked at; service tokens only in the admin."""
    if entry.organisation is None:
        return settings.SITE_URL + reverse("admin:accounts_servicetoken_changelist")
    slug = entry.organisation.slug
    if entry.action.startswith("api_key."):
        return settings.SITE_URL + reverse("accounts:key", args=[slug, entry.subject_id])
    return settings.SITE_URL + reverse("accounts:access_tokens", args=[slug])


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
