"""Who belongs to an organisation: inviting, joining, leaving, changing roles.

Keeps the invariant that every organisation has an owner: whoever changes memberships first locks all of the
organisation's membership rows in primary-key order, so that two owners cannot leave at once. Every act is audited in
its own transaction. Sends no e-mail: `invite` returns the link's token, which is not kept.
"""

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts import audit, credentials
from accounts.audit import Actor
from accounts.credentials import Credential
from accounts.errors import DomainError
from accounts.models import Invitation, Membership, Organisation, Role, User
from accounts.models.organisations import INVITATION_LIFE


class LastOwner(DomainError):
    code = "last_owner"
    sentence = "An organisation needs an owner: make somebody else an owner first."


class OwnersOnly(DomainError):
    code = "owners_only"
    sentence = "Only an owner can make, change or remove owners."


class AlreadyMember(DomainError):
    code = "already_member"
    sentence = "Somebody with that address is already a member."


class InvitationNotUsable(DomainError):
    code = "invitation_not_usable"
    sentence = "This invitation has expired, was withdrawn or has been used."


class OtherAddress(DomainError):
    code = "other_address"
    sentence = "This invitation was sent to another e-mail address."


@transaction.atomic
def change_role(membership: Membership, role: str, *, actor: Actor, request: HttpRequest | None = None) -> Membership:
    """Give a member another role. Owners are made and unmade by owners (or operators) only."""
    memberships = _lock_memberships(membership.organisation)
    membership = _still_there(memberships, membership)
    if membership.role == role:
        return membership
    if Role.OWNER in (membership.role, role):
        _refuse_unless_owner(memberships, actor)
    if membership.role == Role.OWNER:
        _refuse_without_other_owner(memberships, membership)
    change = {"role": [membership.role, Role(role).value]}
    membership.role = Role(role)
    membership.save(update_fields=["role"])
    _record_about_member(membership, "member.role_changed", actor, request, change)
    return membership


@transaction.atomic
def remove_member(membership: Membership, *, actor: Actor, request: HttpRequest | None = None) -> None:
    """End a membership. Removing somebody who is already gone does nothing."""
    memberships = _lock_memberships(membership.organisation)
    found = next((row for row in memberships if row.pk == membership.pk), None)
    if found is None:
        return
    if found.role == Role.OWNER:
        _refuse_unless_owner(memberships, actor)
        _refuse_without_other_owner(memberships, found)
    left = isinstance(actor, User) and actor.pk == found.user_id
    _record_about_member(found, "member.left" if left else "member.removed", actor, request, {"role": found.role})
    Membership.objects.filter(pk=found.pk).delete()


def leave(organisation: Organisation, user: User, *, request: HttpRequest | None = None) -> None:
    """End one's own membership; not being a member does nothing."""
    membership = Membership.objects.for_organisation(organisation).filter(user=user).first()
    if membership is not None:
        remove_member(membership, actor=user, request=request)


@transaction.atomic
def invite(
    organisation: Organisation,
    email: str,
    role: str,
    *,
    invited_by: User,
    request: HttpRequest | None = None,
    now: datetime | None = None,
) -> tuple[Invitation, Credential]:
    """Offer membership to an address. Returns the invitation and its token, which only the e-mail may carry.

    Inviting an address again renews the open invitation with another token, role and end; earlier links die.
    """
    now = now or timezone.now()
    email = email.strip().lower()
    memberships = _lock_memberships(organisation)
    if role == Role.OWNER:
        _refuse_unless_owner(memberships, invited_by)
    if any(row.user.email == email for row in memberships):
        raise AlreadyMember(f"{email} is already a member.")
    token = credentials.new_credential(credentials.INVITATION)
    invitation, created = Invitation.objects.update_or_create(
        organisation=organisation,
        email=email,
        accepted_at=None,
        revoked_at=None,
        defaults={
            "role": Role(role),
            "token_digest": token.digest,
            "invited_by": invited_by,
            "expires_at": now + INVITATION_LIFE,
        },
    )
    action = "invitation.sent" if created else "invitation.renewed"
    _record_about_invitation(invitation, action, invited_by, request)
    return invitation, token


def find_invitation(token: str) -> Invitation | None:
    """The invitation behind a link, in whatever state it is."""
    digest = credentials.digest_of(token)
    return Invitation.objects.select_related("organisation", "invited_by").filter(token_digest=digest).first()


@transaction.atomic
def accept_invitation(
    invitation: Invitation, user: User, *, request: HttpRequest | None = None, now: datetime | None = None
) -> Membership:
    """Make the invited user a member. Accepting twice returns the same membership."""
    now = now or timezone.now()
    invitation = Invitation.objects.select_for_update().select_related("organisation").get(pk=invitation.pk)
    if user.email != invitation.email:
        raise OtherAddress
    member = Membership.objects.for_organisation(invitation.organisation).filter(user=user).first()
    if invitation.accepted_at is not None and member is not None:
        return member
    if not invitation.is_pending(now):
        raise InvitationNotUsable
    invitation.accepted_at = now
    invitation.save(update_fields=["accepted_at"])
    if member is None:
        member = Membership.objects.create(organisation=invitation.organisation, user=user, role=invitation.role)
    _record_about_invitation(invitation, "invitation.accepted", user, request)
    return member


@transaction.atomic
def withdraw_invitation(invitation: Invitation, *, actor: Actor, request: HttpRequest | None = None) -> bool:
    """Take an offer back. Returns whether anything changed: accepted or withdrawn ones stay as they are."""
    changed = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None).update(
        revoked_at=timezone.now()
    )
    if changed:
        _record_about_invitation(invitation, "invitation.withdrawn", actor, request)
    return bool(changed)


def _lock_memberships(organisation: Organisation) -> list[Membership]:
    """Every membership, locked in primary-key order: whoever comes second waits and then sees what the first did."""
    rows = Membership.objects.for_organisation(organisation).select_related("user", "organisation")
    return list(rows.select_for_update(of=("self",)).order_by("pk"))


def _still_there(memberships: list[Membership], membership: Membership) -> Membership:
    found = next((row for row in memberships if row.pk == membership.pk), None)
    if found is None:
        raise Membership.DoesNotExist
    return found


def _refuse_unless_owner(memberships: list[Membership], actor: Actor) -> None:
    """Only owners touch owners; an operator (staff) and the system may too."""
    if not isinstance(actor, User) or actor.is_staff:
        return
    if not any(row.user_id == actor.pk and row.role == Role.OWNER for row in memberships):
        raise OwnersOnly


def _refuse_without_other_owner(memberships: list[Membership], membership: Membership) -> None:
    if not any(row.role == Role.OWNER and row.pk != membership.pk for row in memberships):
        raise LastOwner


def _record_about_member(
    membership: Membership, action: str, actor: Actor, request: HttpRequest | None, details: Mapping[str, object]
) -> None:
    audit.record(
        action,
        organisation=membership.organisation,
        actor=actor,
        subject_label=membership.user.email,
        details=details,
        request=request,
    )


def _record_about_invitation(invitation: Invitation, action: str, actor: Actor, request: HttpRequest | None) -> None:
    audit.record(
        action,
        organisation=invitation.organisation,
        actor=actor,
        subject_id=invitation.public_id,
        subject_label=invitation.email,
        details={"role": invitation.role},
        request=request,
    )
