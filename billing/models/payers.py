"""Who a bill is made out to."""

from django.db import models

from accounts.models import Organisation


class BillingDetails(models.Model):
    """Name and address for invoices, kept by the organisation; each invoice freezes a copy."""

    organisation = models.OneToOneField(
        Organisation, primary_key=True, on_delete=models.PROTECT, related_name="billing_details"
    )
    legal_name = models.CharField(max_length=200)
    # Where invoices are sent.
    email = models.EmailField(max_length=254)
    address = models.TextField(max_length=500, blank=True, help_text="Street, town and postcode, as on an envelope.")
    # ISO 3166-1 alpha-2 in capitals, empty where not given.
    country = models.CharField(max_length=2, blank=True)
    tax_id = models.CharField(max_length=40, blank=True)

    class Meta:
        verbose_name_plural = "billing details"

    def __str__(self) -> str:
        return self.legal_name
