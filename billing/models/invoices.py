"""Invoices and their lines. A row exists from finalising on; before that the bill is computed live.

Numbers have no gaps. Amounts, lines and evidence are frozen: the database lets only the payment fields change.
"""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet
from billing.models.subscriptions import Subscription


def invoice_id() -> str:
    return new_public_id("inv")


class InvoiceState(models.TextChoices):
    """What became of a finalised invoice. Stripe is the truth about everything after `pushed`."""

    FINALISED = "finalised", "Being prepared"
    PUSHED = "pushed", "Open"
    PAID = "paid", "Paid"
    VOID = "void", "Void"
    UNCOLLECTIBLE = "uncollectible", "Uncollectible"


SETTLED_STATES = frozenset({InvoiceState.PAID, InvoiceState.VOID, InvoiceState.UNCOLLECTIBLE})


class Invoice(OrganisationOwned):
    public_id = models.CharField(max_length=32, unique=True, default=invoice_id, editable=False)
    # KT-2026-00042: gapless within its year. Part of the address and of what Stripe shows.
    number = models.CharField(max_length=26, unique=True)
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="invoices")
    plan_name = models.CharField(max_length=160)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    currency = models.CharField(max_length=3)
    # The exact sum of the lines in the major unit, before the one rounding.
    total_exact = models.DecimalField(max_digits=None, decimal_places=None)
    # What is owed, in the currency's minor unit. Equals the sum of the lines' amount_minor.
    total_minor = models.BigIntegerField()
    # Seller and buyer as they were: {"seller": {…}, "buyer": {…}}.
    parties = models.JSONField(encoder=DjangoJSONEncoder)
    # What the figures rest on: cutoff, readings, price rows and what was unpriced.
    evidence = models.JSONField(encoder=DjangoJSONEncoder)
    # Its prices are those of the book as it stood then, also where the period is rated again. Null: as it stood when it
    # was finalised.
    prices_known_at = models.DateTimeField(null=True, blank=True)
    # What its period and the earlier ones it adjusted were rated by, for `unchanged`. Empty: not known.
    rated_by = models.JSONField(default=dict, blank=True)
    finalised_at = models.DateTimeField()
    due_at = models.DateTimeField()
    # The fields below follow payment and may change.
    state = models.CharField(max_length=16, choices=InvoiceState, default=InvoiceState.FINALISED)
    amount_paid_minor = models.BigIntegerField(default=0)
    # Null until paid in full.
    paid_at = models.DateTimeField(null=True, blank=True)

    objects: Any = OrganisationQuerySet.as_manager()

    class Meta:
        ordering = ["-finalised_at", "-pk"]
        constraints = [
            # Any number of workers closing one period make one invoice.
            models.UniqueConstraint(fields=["subscription", "period_start"], name="invoice_once_per_period"),
            models.CheckConstraint(
                condition=models.Q(period_end__gt=models.F("period_start")), name="invoice_period_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def is_settled(self) -> bool:
        return self.state in SETTLED_STATES


class LineKind(models.TextChoices):
    FLAT_FEE = "flat_fee", "Flat fee"
    USAGE = "usage", "Usage"
    COMMITMENT = "commitment", "Commitment or cap"
    DISCOUNT = "discount", "Discount"
    ADJUSTMENT = "adjustment", "Late usage of an earlier period"
    CREDIT = "credit", "Credit"
    CARRY_OVER = "carry_over", "Carried over"
    OWED = "owed", "Owed to the customer"


# Lines that follow from the usage of a period: rating it again gives them again.
RATED_KINDS = frozenset({LineKind.USAGE, LineKind.COMMITMENT})


class InvoiceLine(models.Model):
    # Found by the index of its position.
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_index=False, related_name="lines")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=LineKind)
    # Identity of the line within its invoice, stable over computing it again.
    key = models.CharField(max_length=400)
    description = models.CharField(max_length=400)
    # Key of the meter and name of the model; empty where they do not apply.
    meter = models.CharField(max_length=63, blank=True)
    model = models.CharField(max_length=200, blank=True)
    # In the meter's unit; null for lines without a quantity. billable = quantity - included.
    quantity = models.DecimalField(max_digits=None, decimal_places=None, null=True)
    included = models.DecimalField(max_digits=None, decimal_places=None, null=True)
    billable = models.DecimalField(max_digits=None, decimal_places=None, null=True)
    # The price of `scale` units; null where there is not one price (tiers, fees).
    unit_price = models.DecimalField(max_digits=None, decimal_places=None, null=True)
    scale = models.DecimalField(max_digits=None, decimal_places=None, null=True)
    # Before rounding, in the major unit.
    amount_exact = models.DecimalField(max_digits=None, decimal_places=None)
    # Its share of the rounded total, in the minor unit.
    amount_minor = models.BigIntegerField()
    # How the amount came about, as a sentence and as steps.
    explanation = models.TextField()
    steps = models.JSONField(default=list, encoder=DjangoJSONEncoder)
    # Public ids of the price rows applied.
    price_ids = ArrayField(models.CharField(max_length=32), default=list)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()

    class Meta:
        ordering = ["invoice", "position"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="invoice_line_position_unique"),
            models.UniqueConstraint(fields=["invoice", "key"], name="invoice_line_key_unique"),
        ]

    def __str__(self) -> str:
        return self.description


class InvoiceCounter(models.Model):
    """The last number given out in a series; locked while an invoice is finalised, so that there are no gaps."""

    # Prefix and year: KT-2026.
    series = models.CharField(max_length=20, primary_key=True)
    last_number = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.series} {self.last_number}"
