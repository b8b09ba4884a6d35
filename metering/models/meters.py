"""Meters: named rules that turn events into numbers. Defined by the operator; the GenAI set comes ready."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone


class Aggregation(models.TextChoices):
    SUM = "sum", "Sum"
    COUNT = "count", "Count"
    MAX = "max", "Maximum"
    MIN = "min", "Minimum"
    AVERAGE = "average", "Average"
    LATEST = "latest", "Latest"
    UNIQUE_COUNT = "unique_count", "Unique count"


# Totals of these may be added over intervals and over series. Callers ask `Meter.is_additive`.
ADDITIVE = frozenset({Aggregation.SUM, Aggregation.COUNT})
# What folding can do today; the admin and the API refuse the others when a meter is made.
FOLDABLE = ADDITIVE


class MeterRows(models.QuerySet["Meter"]):
    def active(self) -> Self:
        return self.filter(archived_at=None)


class Meter(models.Model):
    """One rule. Its key, event type, value field and aggregation never change: totals are made of them."""

    # Stands in the API, in prices and in plans: input_tokens.
    key = models.SlugField(max_length=63, unique=True)
    # Shown to customers: "Input tokens".
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    # The CloudEvents type of the events that this meter reads.
    event_type = models.CharField(max_length=255)
    # The member of the event's data that holds the value; empty for `count`. An event without it does not feed the
    # meter.
    value_field = models.CharField(max_length=63, blank=True)
    aggregation = models.CharField(max_length=16, choices=Aggregation)
    # One of what is counted, in the plural: tokens, requests, seconds.
    unit = models.CharField(max_length=32)
    # How many units prices and pages are quoted for by default: 1000000 for tokens, 1 for requests.
    display_scale = models.DecimalField(max_digits=18, decimal_places=6, default=Decimal(1))
    # Members of the event's data by which totals are kept apart; `model` is promoted to a column of the series.
    dimensions = ArrayField(models.CharField(max_length=63), default=list, blank=True)
    # The meter this one is a part of (reasoning tokens are output tokens), null otherwise. Parts are shown, never
    # priced twice.
    part_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="parts")
    # Order on pages and bills.
    position = models.PositiveSmallIntegerField(default=100)
    # Events before this instant do not feed the meter.
    effective_from = models.DateTimeField(default=datetime(2020, 1, 1, tzinfo=UTC))
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null while in use.
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = MeterRows.as_manager()

    class Meta:
        ordering = ["position", "key"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(aggregation=Aggregation.COUNT, value_field="")
                | (~models.Q(aggregation=Aggregation.COUNT) & ~models.Q(value_field="")),
                name="meter_value_field_unless_count",
            ),
            models.CheckConstraint(condition=models.Q(display_scale__gt=0), name="meter_display_scale_positive"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_additive(self) -> bool:
        return self.aggregation in ADDITIVE

    def clean(self) -> None:
        if self.aggregation not in FOLDABLE:
            raise ValidationError({"aggregation": "This installation folds sum and count."}, code="not_foldable")
