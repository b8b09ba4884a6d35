"""How allauth behaves here: addresses in lower case, our e-mails, and invitations that end in a membership."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.mail import EmailMessage
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts import emails
from accounts.errors import DomainError
from accounts.memberships import accept_invitation
from accounts.models import Invitation, User

# Public id of the invitation whose link this browser followed.
FOLLOWED_INVITATION = "followed_invitation"
# Allauth's name of an e-mail -> ours; the rest is allauth's own.
EMAILS = {
    "email_confirmation": "confirm_address",
    "email_confirmation_signup": "confirm_address",
    "password_reset_key": "reset_password",
    "account_already_exists": "already_signed_up",
    "unknown_account": "unknown_account",
}


class AccountAdapter(DefaultAccountAdapter):
    def clean_email(self, email: str) -> str:
        return super().clean_email(email).strip().lower()

    def render_mail(
        self,
        template_prefix: str,
        email: str | list[str],
        context: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> EmailMessage:
        name = EMAILS.get(template_prefix.rpartition("/")[2])
        if name is None or not isinstance(email, str):
            return super().render_mail(template_prefix, email, context, headers)
        return emails.message(name, email, context)

    def follow_invitation(self, request: HttpRequest, invitation: Invitation) -> None:
        """Remember that this browser opened an invitation's link: whoever holds it reads that mailbox."""
        request.session[FOLLOWED_INVITATION] = invitation.public_id

    def is_email_verified(self, request: HttpRequest, email: str) -> bool:
        """Signing up with the invited address needs no other confirmation than the link."""
        invitation = _followed(request)
        return invitation is not None and invitation.email == email.lower()

    def post_login(self, request: HttpRequest, user: AbstractBaseUser, *, signup: bool, **kwargs: Any) -> HttpResponse:
        """Somebody who signed up through an invitation is a member from the start."""
        if signup and isinstance(user, User):
            _accept_followed(request, user)
        return super().post_login(request, user, signup=signup, **kwargs)


def _followed(request: HttpRequest) -> Invitation | None:
    public_id = request.session.get(FOLLOWED_INVITATION)
    rows = Invitation.objects.pending(timezone.now())
    return rows.filter(public_id=public_id).first() if public_id else None


def _accept_followed(request: HttpRequest, user: User) -> None:
    invitation = _followed(request)
    if invitation is None or invitation.email != user.email:
        return
    try:
        accept_invitation(invitation, user, request=request)
    except DomainError:
        return  # withdrawn meanwhile: its page, where the browser goes next, says so
