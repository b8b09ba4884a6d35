"""The price book: what a unit of a meter costs for a model, since when, and since when we know. Rows are only added.

A correction is a new row that supersedes another; a row that takes one back supersedes it and is itself never in force.
Which of several rows in force wins is told in `billing.rating.price_book`.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from django.db import models
from django.utils import timezone

from accounts.public_ids import new_public_id
from billing.rating import Conditions
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

    def known_at(self, instant: datetime) -> Self:
        """The rows as the book stood at an instant: known by then, neither superseded nor taken back by then."""
        return self.filter(known_from__lte=instant, is_withdrawn=False).exclude(superseded_by__known_from__lte=instant)

    def standing(self) -> Self:
        """The rows as the book stands: neither superseded nor taken back."""
        return self.filter(is_withdrawn=False, superseded_by=None)

    def overlapping(self, start: datetime, end: datetime) -> Self:
        """Rows valid at some instant of [start, end)."""
        ends_later = models.Q(valid_until=None) | models.Q(valid_until__gt=start)
        return self.filter(ends_later, valid_from__lt=end)

    def in_force(self, now: datetime) -> Self:
        """Rows of today's book valid at an instant, best last: in this order, a later row replaces an earlier one."""
        ends_later = models.Q(valid_until=None) | models.Q(valid_until__gt=now)
        return self.standing().filter(ends_later, valid_from__lte=now).order_by("valid_from", "known_from", "pk")


class PriceFields(models.Model):
    """What a price says: of what, how much, and when it holds."""

    kind = models.CharField(max_length=8, choices=PriceKind, default=PriceKind.LIST)
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
    # What it holds for besides its model; empty or null: for everything. See `billing.rating.conditions`.
    # batch, priority, flex; standard: usage without a tier of its own.
    service_tier = models.CharField(max_length=32, blank=True)
    # Requests with more tokens in their prompt than this, and with at most that many: the whole request is priced so.
    context_above = models.PositiveIntegerField(null=True, blank=True)
    context_up_to = models.PositiveIntegerField(null=True, blank=True)
    # How long what was written to a cache stays there: 5m, 1h.
    cache_ttl = models.CharField(max_length=16, blank=True)
    region = models.CharField(max_length=63, blank=True)

    class Meta:
        abstract = True

    @property
    def conditions(self) -> Conditions:
        return Conditions(
            service_tier=self.service_tier,
            context_above=self.context_above,
            context_up_to=self.context_up_to,
            cache_ttl=self.cache_ttl,
            region=self.region,
        )

    @property
    def holds_for(self) -> str:
        """Conditions and windows in words: "batch, daily 22:00-06:00 UTC"; empty: everything, at any time."""
        return ", ".join(part for part in (str(self.conditions), self.windows) if part)

    def values(self) -> dict[str, Any]:
        """Everything but the meter, by field."""
        return {field.attname: getattr(self, field.attname) for field in PriceFields._meta.fields}


class Price(PriceFields):
    public_id = models.CharField(max_length=32, unique=True, default=price_id, editable=False)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="prices")
    # The row that this one takes the place of, from `known_from` on. Null: of none.
    supersedes = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="superseded_by"
    )
    # True: takes the superseded row back, and is no price itself.
    is_withdrawn = models.BooleanField(default=False)
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
            models.CheckConstraint(
                condition=models.Q(context_up_to=None)
                | models.Q(context_above=None, context_up_to__gt=0)
                | models.Q(context_up_to__gt=models.F("context_above")),
                name="price_context_not_empty",
            ),
            models.CheckConstraint(
                condition=models.Q(is_withdrawn=False) | models.Q(supersedes__isnull=False),
                name="price_withdrawn_supersedes",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model or 'any model'}: {self.amount.normalize():f} {self.currency}"

    @property
    def standing(self) -> str:
        """Whether it counts: in the book, superseded, taken back."""
        successor = getattr(self, "superseded_by", None)
        if self.is_withdrawn or (successor is not None and successor.is_withdrawn):
            return "taken back"
        return "in the book" if successor is None else "superseded"
