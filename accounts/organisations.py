"""Organisations: making, finding, changing, suspending. Who belongs to one is the matter of `accounts.memberships`.

An organisation is made with its owner and its default project. Every act is audited in its own transaction.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import slugify

from accounts import audit
from accounts.audit import Actor
from accounts.errors import DomainError
from accounts.models import Membership, Organisation, Project, Role, User
from accounts.models.organisations import validate_time_zone

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


class OrganisationSuspended(DomainError):
    code = "organisation_suspended"
    sentence = "This organisation is suspended: it can make no keys and tokens, and rotate none."


def find_organisation(name: str) -> Organisation:
    """The organisation with that slug or public id; UnknownOrganisation if there is none."""
    organisation = Organisation.objects.named(name).first()
    if organisation is None:
        raise UnknownOrganisation(f"There is no organisation {name!r}.")
    return organisation


def refuse_if_suspended(organisation: Organisation) -> None:
    """Asked of the row as it is now: whoever makes a secret has to."""
    if Organisation.objects.filter(pk=organisation.pk, suspended_at__isnull=False).exists():
        raise OrganisationSuspended


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
