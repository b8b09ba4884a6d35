"""Tokens for our own REST API: service tokens of the operator, access tokens of an organisation."""

from datetime import datetime

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from accounts import public_ids
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet


class Scope(models.TextChoices):
    """What a token may do. A service token's scopes reach every organisation, an access token's only its own."""

    EVENTS_WRITE = "events:write", "Send usage events"
    USAGE_READ = "usage:read", "Read usage"
    BILLING_READ = "billing:read", "Read bills and invoices"
    BILLING_WRITE = "billing:write", "Change subscriptions and coupons"
    CREDITS_WRITE = "credits:write", "Grant credit and take it back"
    ADMISSION_WRITE = "admission:write", "Admit calls and report how they ended"
    LIMITS_WRITE = "limits:write", "Set, change and lift limits"
    METERS_WRITE = "meters:write", "Define and change meters"
    KEYS_READ = "keys:read", "List API keys"
    KEYS_WRITE = "keys:write", "Create, rotate and revoke API keys"


SERVICE_SCOPES = (
    Scope.EVENTS_WRITE,
    Scope.ADMISSION_WRITE,
    Scope.USAGE_READ,
    Scope.LIMITS_WRITE,
    Scope.METERS_WRITE,
    Scope.BILLING_READ,
    Scope.BILLING_WRITE,
    Scope.CREDITS_WRITE,
    Scope.KEYS_READ,
    Scope.KEYS_WRITE,
)
ACCESS_SCOPES = (Scope.USAGE_READ, Scope.BILLING_READ, Scope.LIMITS_WRITE, Scope.KEYS_READ, Scope.KEYS_WRITE)


class Token(models.Model):
    """What both kinds share. The secret is shown once; its digest is what is looked up."""

    public_id = models.CharField(max_length=32, unique=True, default=public_ids.token_id, editable=False)
    name = models.CharField(max_length=120)
    scopes = ArrayField(models.CharField(max_length=32, choices=Scope))
    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=24, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null: the token does not expire.
    expires_at = models.DateTimeField(null=True, blank=True)
    # Null while the token may be used.
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Written at most once a minute by authentication; null: never used.
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name

    def is_live(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    def status(self, now: datetime) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.is_live(now) else "expired"


class ServiceToken(Token):
    """The operator's own software: gateways and back-office tools."""


class AccessToken(Token, OrganisationOwned):
    """An organisation's software: finance, FinOps, dashboards."""

    objects = OrganisationQuerySet.as_manager()
