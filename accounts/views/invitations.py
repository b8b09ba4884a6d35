"""Invitations: sending and withdrawing them, and the page behind their link."""

import logging
import smtplib

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache

from accounts import emails, memberships, rate_limits
from accounts.access import MemberRequest, member_required, public
from accounts.errors import DomainError
from accounts.forms import InvitationForm
from accounts.models import Capability, Invitation, Membership, Role, User
from accounts.views.errors import too_many_requests
from accounts.views.members import members_page

logger = logging.getLogger(__name__)


@member_required(Capability.MANAGE_MEMBERS)
def invitation_create(request: MemberRequest) -> HttpResponse:
    if request.method != "POST":
        return redirect("accounts:members", slug=request.organisation.slug)
    form = InvitationForm(request.POST, may_make_owners=request.membership.role == Role.OWNER)
    if form.is_valid():
        try:
            invitation, token = memberships.invite(
                request.organisation,
                form.cleaned_data["email"],
                form.cleaned_data["role"],
                invited_by=request.user,
                request=request,
            )
        except DomainError as error:
            form.add_error("email", error.sentence)
        else:
            _send(request, invitation, token.secret)
            return redirect("accounts:members", slug=request.organisation.slug)
    return members_page(request, form)


@member_required(Capability.MANAGE_MEMBERS)
def invitation_withdrawal(request: MemberRequest, public_id: str) -> HttpResponse:
    """Asks on GET, withdraws on POST."""
    rows = Invitation.objects.for_organisation(request.organisation).select_related("organisation")
    invitation = rows.filter(public_id=public_id).first()
    if invitation is None:
        raise Http404("There is no such invitation.")
    back = reverse("accounts:members", args=[request.organisation.slug])
    if request.method == "POST":
        if memberships.withdraw_invitation(invitation, actor=request.user, request=request):
            messages.success(request, f"The invitation of {invitation.email} was withdrawn.")
        return redirect(back)
    context = {"invitation": invitation, "cancel_url": back, "active_nav": "members"}
    return render(request, "accounts/invitation_withdrawal.html", context)


@public
@never_cache
def invitation_accept(request: HttpRequest, token: str) -> HttpResponse:
    """What the link in the e-mail opens, for whoever opens it, in whatever state the invitation is."""
    invitation = memberships.find_invitation(token)
    if invitation is None:
        return _unknown(request)
    user = request.user if isinstance(request.user, User) else None
    if user is not None and _is_member(invitation, user):
        return redirect("billing:overview", slug=invitation.organisation.slug)
    if request.method == "POST" and user is not None:
        try:
            memberships.accept_invitation(invitation, user, request=request)
        except DomainError as error:
            messages.error(request, error.sentence)
            return redirect(request.path)
        messages.success(request, f"Welcome to {invitation.organisation.name}.")
        return redirect("billing:overview", slug=invitation.organisation.slug)
    state = _state(invitation, user)
    if state == "anonymous":
        get_adapter().follow_invitation(request, invitation)
    context = {
        "invitation": invitation,
        "state": state,
        "has_account": User.objects.filter(email=invitation.email).exists() if state == "anonymous" else False,
    }
    return render(request, "accounts/invitation_accept.html", context)


def _unknown(request: HttpRequest) -> HttpResponse:
    """A link that was cut off in the mail, or a guess: who goes on guessing has to wait."""
    now = timezone.now()
    if not rate_limits.is_within(rate_limits.UNKNOWN_INVITATION, request, now):
        return too_many_requests(request, rate_limits.UNKNOWN_INVITATION, now)
    raise Http404("There is no such invitation.")


def _state(invitation: Invitation, user: User | None) -> str:
    """`expired`, `withdrawn`, `accepted`, or who looks at it: `anonymous`, `invited`, `other_address`."""
    status = invitation.status(timezone.now())
    if status != "pending":
        return status
    if user is None:
        return "anonymous"
    return "invited" if user.email == invitation.email else "other_address"


def _is_member(invitation: Invitation, user: User) -> bool:
    return Membership.objects.for_organisation(invitation.organisation).filter(user=user).exists()


def _send(request: MemberRequest, invitation: Invitation, token: str) -> None:
    """After the commit; inviting again sends another link, so a failure only needs saying."""
    try:
        emails.send_invitation(invitation, token)
    except (OSError, smtplib.SMTPException) as error:
        logger.warning("The invitation %s could not be sent: %s", invitation.public_id, error)
        messages.error(request, f"The e-mail to {invitation.email} could not be sent. Invite them again later.")
    else:
        messages.success(request, f"An invitation is on its way to {invitation.email}.")
