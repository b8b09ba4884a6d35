"""Meters: named rules that turn events into numbers. Defined by the operator; the GenAI set comes ready."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Self

from django.contrib.postgres.fields import ArrayField
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
# Kept as a sum and a number of events, so that corrections can be subtracted; an average is divided when it is read.
SUMMED = ADDITIVE | {Aggregation.AVERAGE}
# Paths into an event's data: as long as anybody writes them.
PATH_LENGTH = 255


class MeterRows(models.QuerySet["Meter"]):
    def active(self) -> Self:
        return self.filter(archived_at=None)


class Meter(models.Model):
    """One rule. What totals are made of never changes: another definition is a `MeterRevision`, from an instant on."""

    # Stands in the API, in prices and in plans: input_tokens.
    key = models.SlugField(max_length=63, unique=True)
    # Shown to customers: "Input tokens".
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    # The CloudEvents type of the events that this meter reads.
    event_type = models.CharField(max_length=255)
    # The member of the event's data that holds the value, or a path to it (usage.seconds); empty for `count`. An event
    # without it does not feed the meter. Of `unique_count`, what is told apart.
    value_field = models.CharField(max_length=PATH_LENGTH, blank=True)
    aggregation = models.CharField(max_length=16, choices=Aggregation)
    # One of what is counted, in the plural: tokens, requests, seconds.
    unit = models.CharField(max_length=32)
    # How many units prices and pages are quoted for by default: 1000000 for tokens, 1 for requests.
    display_scale = models.DecimalField(max_digits=18, decimal_places=6, default=Decimal(1))
    # Members of the event's data, or paths, by which totals are kept apart; `model` is promoted to a column of the
    # series.
    dimensions = ArrayField(models.CharField(max_length=PATH_LENGTH), default=list, blank=True)
    # Dimensions that are made of numbers: name -> fields that are added up, and what is said of which sizes. See
    # `metering.members.Tiers`.
    tiers = models.JSONField(default=dict, blank=True)
    # Conditions on the event's data, all of which must hold. See `metering.members.Condition`.
    filters = models.JSONField(default=list, blank=True)
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

    @property
    def latest_definition(self) -> "Meter | MeterRevision":
        """What it keeps apart and lets through once all revisions have taken effect."""
        return next(iter(self.revisions.order_by("-effective_from")), self)

    def definitions(self) -> "Iterator[tuple[Meter | MeterRevision, datetime, datetime | None]]":
        """The first definition and the revisions, each with the instants between which it holds; None: for good."""
        every: Sequence[Meter | MeterRevision] = (self, *self.revisions.all())
        ends = [one.effective_from for one in every[1:]]
        for one, end in zip(every, [*ends, None], strict=True):
            until = min(filter(None, (end, self.archived_at)), default=None)
            if until is None or one.effective_from < until:
                yield one, one.effective_from, until


class MeterRevision(models.Model):
    """What a meter keeps apart and lets through from a quarter hour on. Before it, the definition before it holds."""

    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="revisions")
    # A quarter hour that lay in the future when this was written, so that no total ever changes.
    effective_from = models.DateTimeField()
    dimensions = ArrayField(models.CharField(max_length=PATH_LENGTH), default=list, blank=True)
    tiers = models.JSONField(default=dict, blank=True)
    filters = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["meter", "effective_from"]
        constraints = [models.UniqueConstraint(fields=["meter", "effective_from"], name="meter_revision_once")]

    def __str__(self) -> str:
        return f"{self.meter} from {self.effective_from:%Y-%m-%d %H:%M}"
