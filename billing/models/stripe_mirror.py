"""What is known of our things at Stripe. Ids are kept by environment, so that test and live never mix."""

from django.db import models
from django.utils import timezone

from accounts.models import Organisation
from billing.models.invoices import Invoice


class StripeCustomer(models.Model):
    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="stripe_customers")
    # "test" or "live" (or a name of the operator's).
    environment = models.CharField(max_length=32)
    # Stripe locks a customer to one currency.
    currency = models.CharField(max_length=3)
    # Raised by a person when Stripe's customer was deleted and a new one is wanted; part of the idempotency key.
    generation = models.PositiveSmallIntegerField(default=1)
    # What it is made with, written before the first call and never after: a retry must send the same.
    name = models.CharField(max_length=200, default="")
    email = models.EmailField(max_length=254, default="")
    # Null until Stripe answered.
    stripe_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    # True once a push found the customer deleted at Stripe: pushing stops until a person decides.
    is_missing = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "environment", "currency"], name="stripe_customer_once_per_currency"
            )
        ]

    def __str__(self) -> str:
        return self.stripe_id or "not at Stripe yet"


class PushState(models.TextChoices):
    WAITING = "waiting", "Waiting to be pushed"
    PUSHED = "pushed", "At Stripe"
    MISMATCH = "mismatch", "Stripe's figures differ: a person must look"
    REFUSED = "refused", "Stripe refused it: a person must look"


class StripeInvoice(models.Model):
    """The push of one invoice. The row is the queue; `stripe_sync` looks before it acts on every run."""

    invoice = models.OneToOneField(Invoice, primary_key=True, on_delete=models.PROTECT, related_name="stripe_invoice")
    environment = models.CharField(max_length=32)
    # Raised when a draft was thrown away; part of every idempotency key.
    generation = models.PositiveSmallIntegerField(default=1)
    # Committed before the first call: the intention.
    first_try_at = models.DateTimeField(null=True, blank=True)
    stripe_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    # SHA-256 of the lines as sent.
    digest = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=16, choices=PushState, default=PushState.WAITING)
    # As Stripe last told: its status, total in minor units, and the page where the customer pays.
    remote_status = models.CharField(max_length=32, blank=True)
    remote_total = models.BigIntegerField(null=True, blank=True)
    hosted_url = models.URLField(max_length=2000, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    tries = models.PositiveIntegerField(default=0)
    # Null: now.
    next_try_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["next_try_at"], condition=models.Q(state="waiting"), name="stripe_push_waiting")
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id} {self.state}"


class StripeEvent(models.Model):
    """The inbox: a webhook is stored once under Stripe's id, answered, and applied later."""

    id = models.CharField(max_length=255, primary_key=True)
    type = models.CharField(max_length=100)
    # By Stripe's clock; whole seconds, so it cannot order events.
    created_at = models.DateTimeField()
    # Id of the object that the event is about.
    object_id = models.CharField(max_length=255, blank=True)
    payload = models.JSONField()
    received_at = models.DateTimeField(default=timezone.now)
    # Null until applied or found to be none of ours.
    handled_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    tries = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-received_at"]
        indexes = [
            models.Index(fields=["received_at"], condition=models.Q(handled_at=None), name="stripe_event_unhandled")
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
