"""Who pays before they use."""

from django.db import models
from django.db.models import Q

from accounts.models import Organisation


class PrepaidTerms(models.Model):
    """An organisation that may use what its credit pays for, and what it may overdraw; without a row it is billed."""

    organisation = models.OneToOneField(
        Organisation, primary_key=True, on_delete=models.PROTECT, related_name="prepaid_terms"
    )
    # The subscription's when it was agreed.
    currency = models.CharField(max_length=3)
    # How far below zero it may go; in the currency's major unit.
    overdraft = models.DecimalField(max_digits=38, decimal_places=18, default=0)
    since = models.DateTimeField()
    # When metering was last told what may be spent; null: it has to be told as soon as possible.
    told_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "prepaid terms"
        constraints = [models.CheckConstraint(condition=Q(overdraft__gte=0), name="prepaid_overdraft_not_negative")]

    def __str__(self) -> str:
        return str(self.organisation)
