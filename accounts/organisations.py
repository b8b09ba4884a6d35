"""Organisations and who belongs to them: making, changing, inviting, joining, leaving, suspending.

Keeps the invariant that every organisation has an owner: whoever changes memberships first locks all of the
organisation's membership rows in primary-key order, so that two owners cannot leave at once. Every act is audited in
its own transaction. Sends no e-mail: `invite` returns the link's token, which is not kept.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import slugify

from accounts import audit, credentials
from accounts.audit import Actor
from accounts.credentials import Credential
from accounts.errors import DomainError
from accounts.models import Invitation, Membership, Organisation, Project, Role, User
from accounts.models.organisations import INVITATION_LIFE, validate_time_zone

DEFAULT_PROJECT = "Default"
# Addresses that mean something else under /o/, or would confuse.
RESERVED_SLUGS = frozenset({"new", "admin", "api"})
LONGEST_SLUG = 63


class UnknownOrganisation(DomainError):
    code = "unknown_organisation"
    status = 404
    sentence = "There is no such organisation."


class InvalidName(DomainError):
    code = "invalid_name"
    status = 422
    sentence = "Enter a name of at most 120 characters."


class InvalidTimeZone(DomainError):
    code = "invalid_time_zone"
    status = 422
    sentence = "That is not an IANA time zone such as Europe/Berlin."


class SlugTaken(DomainError):
    code = "slug_taken"
    sentence = "Another organisation already has that address."


class InvalidSlug(DomainError):
    code = "invalid_slug"
    status = 422
    sentence = "That cannot be an address: use lower-case letters, digits and hyphens."


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


def find_organisation(name: str) -> Organisation:
    """The organisation with that slug or public id; UnknownOrganisation if there is none."""
    organisation = Organisation.objects.named(name).first()
    if organisation is None:
        raise UnknownOrganisation(f"There is no organisation {name!r}.")
    return organisation


@transaction.atomic
def create_organisation(
    name: str,
    owner: User,
    *,
    slug: str | None = None,
    time_zone: str = "UTC",
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Organisation:
    """Make an organisation with its owner and its default project.

    Without `slug` one is made from the name, with a suffix if it is taken; a taken `slug` raises SlugTaken. `actor`
    is the owner unless told otherwise.
    """
    organisation = Organisation(name=_valid_name(name), time_zone=_valid_zone(time_zone), days_zone=time_zone)
    if slug is None:
        _insert_with_free_slug(organisation)
    elif not _insert_with_slug(organisation, _valid_slug(slug)):
        raise SlugTaken
    Membership.objects.create(organisation=organisation, user=owner, role=Role.OWNER)
    Project.objects.create(organisation=organisation, name=DEFAULT_PROJECT, is_default=True)
    audit.record(
        "organisation.created",
        organisation=organisation,
        actor=actor or owner,
        subject_id=organisation.public_id,
        subject_label=organisation.name,
        details={"slug": organisation.slug, "time_zone": time_zone, "owner": owner.email},
        request=request,
    )
    return organisation


@transaction.atomic
def update_organisation(
    organisation: Organisation,
    *,
    name: str | None = None,
    time_zone: str | None = None,
    actor: Actor,
    request: HttpRequest | None = None,
) -> Organisation:
    """Change the name, the time zone or both. A changed zone leaves `days_zone` behind: metering rebuilds the days."""
    organisation = Organisation.objects.select_for_update().get(pk=organisation.pk)
    wanted = {
        "name": organisation.name if name is None else _valid_name(name),
        "time_zone": organisation.time_zone if time_zone is None else _valid_zone(time_zone),
    }
    changes = {
        field: [getattr(organisation, field), value]
        for field, value in wanted.items()
        if getattr(organisation, field) != value
    }
    if changes:
        for field, (_, value) in changes.items():
            setattr(organisation, field, value)
        organisation.save(update_fields=list(changes))
        _record_about(organisation, "organisation.updated", actor, request, changes)
    return organisation


@transaction.atomic
def suspend(organisation: Organisation, *, actor: Actor, reason: str = "", request: HttpRequest | None = None) -> bool:
    """Stop all use of an organisation's keys and tokens. Returns whether anything changed."""
    return _set_suspended(organisation, timezone.now(), actor, request, {"reason": reason} if reason else {})


@transaction.atomic
def unsuspend(organisation: Organisation, *, actor: Actor, request: HttpRequest | None = None) -> bool:
    """Let an organisation go on. Returns whether anything changed."""
    return _set_suspended(organisation, None, actor, request, {})


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


def _valid_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > 120:
        raise InvalidName
    return name


def _valid_slug(slug: str) -> str:
    if not slug or slug in RESERVED_SLUGS or slugify(slug)[:LONGEST_SLUG] != slug:
        raise InvalidSlug
    return slug


def _valid_zone(time_zone: str) -> str:
    try:
        validate_time_zone(time_zone)
    except ValidationError as error:
        raise InvalidTimeZone(error.messages[0]) from error
    return time_zone


def _insert_with_free_slug(organisation: Organisation) -> None:
    base = slugify(organisation.name)[: LONGEST_SLUG - 8].strip("-") or "organisation"
    if base not in RESERVED_SLUGS and _insert_with_slug(organisation, base):
        return
    for _ in range(5):
        if _insert_with_slug(organisation, f"{base}-{secrets.token_hex(3)}"):
            return
    raise SlugTaken


def _insert_with_slug(organisation: Organisation, slug: str) -> bool:
    """Insert unless the slug is taken; the unique index decides, also between two processes."""
    organisation.slug = slug
    rows = Organisation.objects.bulk_create([organisation], ignore_conflicts=True)
    found = Organisation.objects.filter(public_id=rows[0].public_id).values_list("pk", flat=True).first()
    if found is None:
        return False
    organisation.pk = found
    return True


def _set_suspended(
    organisation: Organisation,
    at: datetime | None,
    actor: Actor,
    request: HttpRequest | None,
    details: Mapping[str, object],
) -> bool:
    rows = Organisation.objects.filter(pk=organisation.pk, suspended_at__isnull=at is not None)
    changed = rows.update(suspended_at=at)
    if changed:
        organisation.suspended_at = at
        action = "organisation.suspended" if at else "organisation.unsuspended"
        _record_about(organisation, action, actor, request, details)
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


def _record_about(
    organisation: Organisation, action: str, actor: Actor, request: HttpRequest | None, details: Mapping[str, object]
) -> None:
    audit.record(
        action,
        organisation=organisation,
        actor=actor,
        subject_id=organisation.public_id,
        subject_label=organisation.name,
        details=details,
        request=request,
    )


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
