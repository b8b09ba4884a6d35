"""Credit that a customer buys: from the choice of an amount to the payment at Stripe and the grant it led to."""

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q

from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet
from billing.models.credits import CreditGrant


def purchase_id() -> str:
    return new_public_id("purchase")


class PurchaseState(models.TextChoices):
    OPEN = "open", "Waiting for payment"
    # Paid in a way that takes days, such as a direct debit.
    PROCESSING = "processing", "Payment under way"
    PAID = "paid", "Paid"
    ENDED = "ended", "Not paid"
    MISMATCH = "mismatch", "Stripe's figures differ: a person must look"


# Stripe may still have news of these.
UNDECIDED = (PurchaseState.OPEN, PurchaseState.PROCESSING)


class CreditPurchaseRows(OrganisationQuerySet["CreditPurchase"]):
    def undecided(self) -> Self:
        return self.filter(state__in=UNDECIDED)

    def receipt_due(self, now: datetime) -> Self:
        waiting = Q(next_receipt_at=None) | Q(next_receipt_at__lte=now)
        return self.filter(waiting, state=PurchaseState.PAID, receipt_sent_at=None)


class CreditPurchase(OrganisationOwned):
    public_id = models.CharField(max_length=40, unique=True, default=purchase_id, editable=False)
    # "test" or "live": ids of different accounts at Stripe never mix.
    environment = models.CharField(max_length=32)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    # Seller and buyer as they were when it was asked for, as on an invoice.
    parties = models.JSONField()
    state = models.CharField(max_length=16, choices=PurchaseState, default=PurchaseState.OPEN)
    # The Checkout session; null until Stripe answered.
    stripe_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    # What was paid with, by which refunds find their way here; empty before.
    payment_intent = models.CharField(max_length=255, blank=True, db_index=True)
    # What the payment led to; null before.
    grant = models.OneToOneField(
        CreditGrant, null=True, blank=True, on_delete=models.PROTECT, related_name="purchase", editable=False
    )
    # Given back at Stripe so far, and how much of it could still be taken off the credit, both in minor units.
    refunded_minor = models.BigIntegerField(default=0)
    taken_back_minor = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()
    paid_at = models.DateTimeField(null=True, blank=True)
    # When Stripe was last asked; null: never.
    checked_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    # The e-mail with the receipt: null until the mail server took it. Put ahead before each try.
    receipt_sent_at = models.DateTimeField(null=True, blank=True)
    receipt_tries = models.PositiveSmallIntegerField(default=0)
    next_receipt_at = models.DateTimeField(null=True, blank=True)

    objects: Any = CreditPurchaseRows.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="purchase_of_something"),
            models.CheckConstraint(
                condition=Q(state=PurchaseState.PAID, grant__isnull=False)
                | ~Q(state=PurchaseState.PAID) & Q(grant__isnull=True),
                name="purchase_grant_where_paid",
            ),
        ]
        indexes = [
            models.Index(
                fields=["checked_at"], condition=Q(state__in=["open", "processing"]), name="purchase_undecided"
            ),
            models.Index(
                fields=["next_receipt_at"], condition=Q(state="paid", receipt_sent_at=None), name="purchase_receipt_due"
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def is_undecided(self) -> bool:
        return self.state in UNDECIDED
