"""API keys: what a customer's software presents to the AI gateway. They open no door of our own REST API.

A key is a lasting identity with one or more secrets. Rotation adds a secret and gives the old one an end, so that
both work during the overlap while the key's id, name and history stay the same.
"""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts import public_ids
from accounts.models.projects import Project
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet


class ApiKeyRows(OrganisationQuerySet["ApiKey"]):
    def live(self, now: datetime) -> Self:
        """Keys that may be used now. See also ApiKey.is_live."""
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now), revoked_at=None)

    def with_status(self, status: str, now: datetime) -> Self:
        """Keys that are `active`, `revoked` or `expired`. See also ApiKey.status."""
        if status == "active":
            return self.live(now)
        if status == "revoked":
            return self.filter(revoked_at__isnull=False)
        return self.filter(revoked_at=None, expires_at__lte=now)

    def unused_since(self, instant: datetime) -> Self:
        """Keys last used before the instant; those never used count from when they were made."""
        return self.alias(last_sign=Coalesce("last_used_at", "created_at")).filter(last_sign__lt=instant)


class ApiKey(OrganisationOwned):
    public_id = models.CharField(max_length=32, unique=True, default=public_ids.api_key_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=120)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null: the key does not expire.
    expires_at = models.DateTimeField(null=True, blank=True)
    # Null while the key may be used.
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Written by aggregation, at most every few minutes; null: never used.
    last_used_at = models.DateTimeField(null=True, blank=True)
    # Shell-style patterns of models' names; empty: every model. See accounts.key_restrictions for all three.
    allowed_models = ArrayField(models.CharField(max_length=120), default=list, blank=True)
    # Networks as canonical CIDR; empty: anywhere.
    allowed_networks = ArrayField(models.CharField(max_length=43), default=list, blank=True)
    # The owner's own notes: texts by name. Nothing of ours reads them.
    metadata = models.JSONField(default=dict, blank=True)

    objects = ApiKeyRows.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def newest_secret(self) -> "ApiKeySecret":
        """The secret that was made last; lists prefetch `secrets`."""
        return max(self.secrets.all(), key=lambda secret: secret.pk)

    def is_live(self, now: datetime) -> bool:
        """See also ApiKeyRows.live."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    def status(self, now: datetime) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.is_live(now) else "expired"


class ApiKeySecret(models.Model):
    """One secret of a key, as far as it may be kept."""

    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="secrets")
    # SHA-256 of the whole key in hexadecimal: what LiteLLM reports as user_api_key_hash.
    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=16, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null: as long as the key. Set by rotation to the end of the overlap.
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.prefix}…{self.last_four}"

    def is_live(self, now: datetime) -> bool:
        """Whether rotation has not ended it; whether its key is live is another question."""
        return self.expires_at is None or self.expires_at > now
