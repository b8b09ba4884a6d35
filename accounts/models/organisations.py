"""Organisations, who belongs to them and who is invited. Every organisation has at least one owner."""

import zoneinfo
from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from accounts import public_ids
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet

# How long an invitation's link works.
INVITATION_LIFE = timedelta(days=7)


def validate_time_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name!r} is not an IANA time zone such as Europe/Berlin.", code="unknown_time_zone")


class Capability(models.TextChoices):
    """What a member may do; roles are named sets of these, and views ask for one of them."""

    MANAGE_ORGANISATION = "manage_organisation", "change the organisation"
    MANAGE_MEMBERS = "manage_members", "invite and remove members"
    MANAGE_KEYS = "manage_keys", "manage API keys and projects"
    MANAGE_TOKENS = "manage_tokens", "manage access tokens"
    MANAGE_BILLING = "manage_billing", "choose plans and pay invoices"
    MANAGE_LIMITS = "manage_limits", "set limits and alerts"
    READ_AUDIT = "read_audit", "read the audit log"


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    BILLING = "billing", "Billing"
    DEVELOPER = "developer", "Developer"
    VIEWER = "viewer", "Viewer"


# Every member may read usage, bills, keys (never secrets) and members; these are what roles add.
CAPABILITIES: dict[str, frozenset[Capability]] = {
    Role.OWNER: frozenset(Capability),
    Role.ADMIN: frozenset(Capability),
    Role.BILLING: frozenset({Capability.MANAGE_BILLING, Capability.MANAGE_LIMITS, Capability.READ_AUDIT}),
    Role.DEVELOPER: frozenset({Capability.MANAGE_KEYS, Capability.MANAGE_TOKENS}),
    Role.VIEWER: frozenset(),
}


class OrganisationRows(models.QuerySet["Organisation"]):
    def of_member(self, user: object) -> Self:
        """Organisations that a user belongs to; for anyone else's the answer is empty, hence 404."""
        return self.filter(memberships__user=user)

    def named(self, name: str) -> Self:
        """By slug or public id, as commands and the REST API name one."""
        return self.filter(public_id=name) if name.startswith("org_") else self.filter(slug=name)


class Organisation(models.Model):
    """The party that uses AI and is billed for it."""

    public_id = models.CharField(max_length=32, unique=True, default=public_ids.organisation_id, editable=False)
    name = models.CharField(max_length=120)
    # Stands in addresses (/o/<slug>/…) and in commands; does not follow later changes of the name.
    slug = models.SlugField(max_length=63, unique=True)
    # Days, months and billing periods are this zone's; changed only through `accounts.organisations`.
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    # The zone that the stored days of usage were counted in. Written by metering, which rebuilds them once this differs
    # from `time_zone` and then makes both equal again.
    days_zone = models.CharField(max_length=64, default="UTC", editable=False)
    # Null while the organisation may use its keys; set and cleared by operators.
    suspended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OrganisationRows.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        permissions = [("look_into_organisation", "Can look into an organisation's portal")]

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.time_zone)

    @property
    def is_suspended(self) -> bool:
        return self.suspended_at is not None


class Membership(OrganisationOwned):
    public_id = models.CharField(max_length=32, unique=True, default=public_ids.membership_id, editable=False)
    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OrganisationQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["organisation", "user"], name="membership_once_per_user"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organisation} as {self.role}"

    def may(self, capability: str) -> bool:
        return capability in CAPABILITIES[self.role]


class InvitationRows(OrganisationQuerySet["Invitation"]):
    def pending(self, now: datetime) -> Self:
        return self.filter(accepted_at=None, revoked_at=None, expires_at__gt=now)


class Invitation(OrganisationOwned):
    """An offer of membership sent to an e-mail address. Only the digest of the link's token is kept."""

    public_id = models.CharField(max_length=32, unique=True, default=public_ids.invitation_id, editable=False)
    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=16, choices=Role)
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    # Null until somebody with that address took it up.
    accepted_at = models.DateTimeField(null=True, blank=True)
    # Null unless it was withdrawn.
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = InvitationRows.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "email"],
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="invitation_open_once_per_email",
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="invitation_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.organisation}"

    def is_pending(self, now: datetime) -> bool:
        """See also InvitationRows.pending."""
        return self.status(now) == "pending"

    def status(self, now: datetime) -> str:
        """`pending`, `accepted`, `withdrawn` or `expired`."""
        if self.accepted_at is not None:
            return "accepted"
        if self.revoked_at is not None:
            return "withdrawn"
        return "pending" if self.expires_at > now else "expired"
