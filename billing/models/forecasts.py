"""The forecast of a subscription's running period, as it was last made. A projection: made again every hour."""

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from accounts.tenancy import OrganisationOwned
from billing.models.subscriptions import Subscription


class Forecast(OrganisationOwned):
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="forecasts")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    made_at = models.DateTimeField()
    currency = models.CharField(max_length=3)
    # The period's total, and what eight of ten outcomes should lie between, in minor units. Null: too little history.
    total_minor = models.BigIntegerField(null=True)
    low_minor = models.BigIntegerField(null=True)
    high_minor = models.BigIntegerField(null=True)
    # When the method was last tried on periods that ended; null: never.
    tested_at = models.DateTimeField(null=True)
    # A trial each: {"at", "period_start", "forecast_minor", "low_minor", "high_minor", "actual_minor"}.
    trials = models.JSONField(default=list, encoder=DjangoJSONEncoder)

    class Meta:
        ordering = ["-period_start"]
        constraints = [
            models.UniqueConstraint(fields=["subscription", "period_start"], name="forecast_once_per_period")
        ]

    def __str__(self) -> str:
        return f"{self.subscription} {self.period_start:%Y-%m}"
