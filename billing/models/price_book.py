"""The price book: what a unit of a meter costs for a model, and since when. Rows are only ever added.

A correction is a new row with the same `valid_from`: of two rows in force the later `valid_from` wins, then the
later `known_from`. A row whose weekly window is open beats rows without windows.
"""

from datetime import datetime
from decimal import Decimal
from typing import Self

from django.db import models
from django.utils import timezone

from accounts.public_ids import new_public_id
from metering.models import Meter


def price_id() -> str:
    return new_public_id("price")


class PriceKind(models.TextChoices):
    LIST = "list", "List price"
    COST = "cost", "Provider cost"


class PriceRows(models.QuerySet["Price"]):
    def list_prices(self, currency: str) -> Self:
        return self.filter(kind=PriceKind.LIST, currency=currency)

    def provider_costs(self, currency: str) -> Self:
        return self.filter(kind=PriceKind.COST, currency=currency)

    def overlapping(self, start: datetime, end: datetime) -> Self:
        """Rows valid at some instant of [start, end)."""
        ends_later = models.Q(valid_until=None) | models.Q(valid_until__gt=start)
        return self.filter(ends_later, valid_from__lt=end)

    def in_force(self, now: datetime) -> Self:
        """Rows valid at an instant, best last: read in this order, a later row replaces an earlier one."""
        ends_later = models.Q(valid_until=None) | models.Q(valid_until__gt=now)
        return self.filter(ends_later, valid_from__lte=now).order_by("valid_from", "known_from", "pk")


class Price(models.Model):
    public_id = models.CharField(max_length=32, unique=True, default=price_id, editable=False)
    kind = models.CharField(max_length=8, choices=PriceKind, default=PriceKind.LIST)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="prices")
    # Empty: any model that has no row of its own.
    model = models.CharField(max_length=200, blank=True)
    # ISO 4217 in capitals.
    currency = models.CharField(max_length=3)
    # What `scale` units cost, in the currency's major unit.
    amount = models.DecimalField(max_digits=30, decimal_places=12)
    scale = models.DecimalField(max_digits=18, decimal_places=6, default=Decimal(1_000_000))
    # Half-open, on quarter hours, so that no interval is split; a null end means: until another row takes over.
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)
    # Holds only in these weekly windows: "Mon-Fri 01:00-04:00, 06:00-10:00 UTC". Empty: at any time.
    windows = models.CharField(max_length=300, blank=True)
    # When this installation learnt of it.
    known_from = models.DateTimeField(default=timezone.now, editable=False)
    # Where the figure comes from: "operator", "genai-prices 0.2.3".
    source = models.CharField(max_length=120, default="operator")

    objects = PriceRows.as_manager()

    class Meta:
        ordering = ["meter", "model", "-valid_from", "-known_from"]
        constraints = [
            models.CheckConstraint(condition=models.Q(scale__gt=0), name="price_scale_positive"),
            models.CheckConstraint(condition=models.Q(amount__gte=0), name="price_amount_not_negative"),
            models.CheckConstraint(
                condition=models.Q(valid_until=None) | models.Q(valid_until__gt=models.F("valid_from")),
                name="price_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.meter_id} {self.model} {self.amount} {self.currency}"
