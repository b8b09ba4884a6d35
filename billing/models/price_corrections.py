"""Corrections of prices in closed periods: an operator's word that the book of today counts there, too. Append-only."""

from django.db import models

from accounts.models import Organisation
from accounts.public_ids import new_public_id
from billing.models.invoices import Invoice


def correction_id() -> str:
    return new_public_id("pcor")


class PriceCorrection(models.Model):
    public_id = models.CharField(max_length=32, unique=True, default=correction_id, editable=False)
    # Null: of all organisations.
    organisation = models.ForeignKey(Organisation, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    # Invoices whose periods share an instant with [starts_at, ends_at) were looked at.
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    # Those invoices are rated by the book as it stood then.
    known_at = models.DateTimeField()
    made_at = models.DateTimeField()
    # For customers and auditors: why the past was wrong.
    reason = models.CharField(max_length=500)

    class Meta:
        ordering = ["-made_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="price_correction_not_empty"
            )
        ]

    def __str__(self) -> str:
        return self.public_id


class CorrectedInvoice(models.Model):
    """An invoice to which a correction makes a difference. The invoice itself stays as it is; the next one of the
    subscription carries the difference."""

    correction = models.ForeignKey(PriceCorrection, on_delete=models.PROTECT, related_name="invoices")
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="corrections")
    # The subscription's newest invoice at that time.
    after = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="+")
    # What the correction came to then, in the major unit: positive is owed, negative is given back.
    difference = models.DecimalField(max_digits=None, decimal_places=None)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["correction", "invoice"], name="corrected_invoice_once_per_correction")
        ]

    def __str__(self) -> str:
        return f"{self.correction} {self.invoice}"
