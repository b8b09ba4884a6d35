"""What each bill earned and cost, by day and model. A projection: made again from bills and totals."""

from django.db import models

from accounts.tenancy import OrganisationOwned
from billing.models.subscriptions import Subscription


class MarginDay(OrganisationOwned):
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="margin_days")
    # The start of the period whose bill charges it; a fee in advance lies on days after that period.
    bill_start = models.DateTimeField()
    # Of the subscription's zone.
    day = models.DateField()
    # Empty: what belongs to no model, such as fees and commitments.
    model = models.CharField(max_length=200, blank=True)
    currency = models.CharField(max_length=3)
    # Exact, in the major unit. A bill's rows add up to its total before rounding, without what it carried over.
    revenue = models.DecimalField(max_digits=None, decimal_places=None)
    # What the provider charges for the same usage, as far as it is known.
    cost = models.DecimalField(max_digits=None, decimal_places=None)
    # Whether some of the usage has no cost in the price book: the margin is then smaller than it looks.
    is_cost_partial = models.BooleanField(default=False)
    computed_at = models.DateTimeField()

    class Meta:
        ordering = ["-day", "organisation", "model"]
        verbose_name = "margin"
        constraints = [
            models.UniqueConstraint(fields=["subscription", "bill_start", "day", "model"], name="margin_day_unique")
        ]
        indexes = [models.Index(fields=["day"], name="margin_day")]

    def __str__(self) -> str:
        return f"{self.day} {self.model}"
