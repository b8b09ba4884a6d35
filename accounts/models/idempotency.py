"""Which requests have been carried out, so that one sent again changes nothing."""

from django.db import models
from django.utils import timezone

from accounts.tenancy import OrganisationOwned, OrganisationQuerySet


class IdempotentRequest(OrganisationOwned):
    """One carried-out request. Written by `accounts.idempotency` in the transaction of what it did; kept for good."""

    # Noun and past participle, as in the audit log: keys of different operations do not meet.
    operation = models.CharField(max_length=64)
    # Chosen by the caller: the Idempotency-Key header, or the hidden field of a form.
    key = models.CharField(max_length=255)
    # SHA-256 of what was asked for: the same key with other content is a mistake.
    fingerprint = models.CharField(max_length=64)
    # Public id of what came of it.
    result_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OrganisationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "operation", "key"], name="idempotent_request_once"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.key}"
