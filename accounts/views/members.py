"""Members of an organisation: the list, roles, removal, leaving."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import memberships
from accounts.access import MemberRequest, member_required
from accounts.errors import DomainError
from accounts.forms import InvitationForm, RoleForm
from accounts.models import Capability, Invitation, Membership, Role
from accounts.pages import render_page, wants_part

LIST = "accounts/members.html"


@member_required()
@require_safe
def members(request: MemberRequest) -> HttpResponse:
    return members_page(request)


def members_page(request: MemberRequest, invitation_form: InvitationForm | None = None) -> HttpResponse:
    """The list; also what an invitation that was filled in wrongly comes back to."""
    rows = Membership.objects.for_organisation(request.organisation).select_related("user")
    is_owner = request.membership.role == Role.OWNER
    context = {
        "members": rows.order_by("user__name", "user__email"),
        "invitations": Invitation.objects.for_organisation(request.organisation).pending(timezone.now()),
        "invitation_form": invitation_form or InvitationForm(may_make_owners=is_owner),
        "roles": [(role.value, role.label) for role in Role if is_owner or role != Role.OWNER],
        "is_owner": is_owner,
        "active_nav": "members",
    }
    return render_page(request, LIST, context, part="member-list")


@member_required(Capability.MANAGE_MEMBERS)
@require_POST
def member_role(request: MemberRequest, public_id: str) -> HttpResponse:
    member = _member(request, public_id)
    form = RoleForm(request.POST)
    try:
        if form.is_valid():
            memberships.change_role(member, form.cleaned_data["role"], actor=request.user, request=request)
            messages.success(request, f"{member.user.get_full_name()} has another role now.")
        else:
            messages.error(request, "There is no such role.")
    except DomainError as error:
        messages.error(request, error.sentence)
    if wants_part(request):
        request.membership.refresh_from_db()
        return members_page(request)
    return redirect("accounts:members", slug=request.organisation.slug)


@member_required(Capability.MANAGE_MEMBERS)
def member_removal(request: MemberRequest, public_id: str) -> HttpResponse:
    """Asks on GET, removes on POST."""
    member = _member(request, public_id)
    back = reverse("accounts:members", args=[request.organisation.slug])
    if request.method == "POST":
        try:
            memberships.remove_member(member, actor=request.user, request=request)
        except DomainError as error:
            messages.error(request, error.sentence)
        else:
            messages.success(request, f"{member.user.get_full_name()} is no longer a member.")
            if member.user_id == request.user.pk:
                return redirect("accounts:home")
        return redirect(back)
    context = {"member": member, "cancel_url": back, "active_nav": "members"}
    return render(request, "accounts/member_removal.html", context)


@member_required()
def leave(request: MemberRequest) -> HttpResponse:
    """Asks on GET, leaves on POST."""
    back = reverse("accounts:members", args=[request.organisation.slug])
    if request.method == "POST":
        try:
            memberships.leave(request.organisation, request.user, request=request)
        except DomainError as error:
            messages.error(request, error.sentence)
            return redirect(back)
        messages.success(request, f"You have left {request.organisation.name}.")
        return redirect("accounts:home")
    return render(request, "accounts/leave.html", {"cancel_url": back, "active_nav": "members"})


def _member(request: MemberRequest, public_id: str) -> Membership:
    rows = Membership.objects.for_organisation(request.organisation).select_related("user", "organisation")
    member = rows.filter(public_id=public_id).first()
    if member is None:
        raise Http404("There is no such member.")
    return member
