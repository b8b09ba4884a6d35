"""Totals: series (a set of dimensions, stored once), their values per quarter hour and per day.

Written only by `metering.aggregation`. They are projections of events and can be rebuilt from them to the last digit.
"""

from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models.functions import Now

from accounts.models import Organisation
from metering.models.meters import Meter


class Series(models.Model):
    """One meter for one set of dimensions. Its id is a digest of them, so that every worker arrives at the same one."""

    pk = models.CompositePrimaryKey("organisation_id", "id")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    # MD5 of meter, project, API key, model and labels.
    id = models.UUIDField()
    meter = models.ForeignKey(Meter, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    project_id = models.BigIntegerField()
    # Null: events that named the organisation only.
    api_key_id = models.BigIntegerField(null=True)
    # Empty: events without a model, or a meter without that dimension.
    model = models.TextField(blank=True)
    # The meter's other dimensions as text: {"service_tier": "batch"}.
    labels = models.JSONField(default=dict)
    # Written by the database.
    first_seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "series"
        verbose_name_plural = "series"
        indexes = [
            GinIndex(fields=["labels"], name="series_labels", opclasses=["jsonb_path_ops"]),
            # Rows come in the order of time: what is new is found in next to no space.
            BrinIndex(fields=["first_seen_at"], name="series_first_seen"),
        ]

    def __str__(self) -> str:
        return f"{self.meter_id} {self.model}"


class UsageInterval(models.Model):
    """A series in one quarter hour of UTC: every zone's midnight and every tariff window falls on one."""

    pk = models.CompositePrimaryKey("organisation_id", "series_id", "starts_at")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    series_id = models.UUIDField()
    starts_at = models.DateTimeField()
    # By the meter's aggregation: the sum, also of an average; the largest, smallest or latest value; the number of
    # different values. In the meter's unit, exact.
    value = models.DecimalField(max_digits=None, decimal_places=None)
    # Events that went into the value.
    count = models.BigIntegerField()
    # Of `latest` only: time and key of the event that the value is of. Null columns take no room.
    latest_at = models.DateTimeField(null=True)
    latest_key = models.UUIDField(null=True)

    class Meta:
        db_table = "usage_interval"

    def __str__(self) -> str:
        return f"{self.series_id} {self.starts_at:%Y-%m-%d %H:%M}"


class UsageDay(models.Model):
    """A series on one day of the organisation's `days_zone`, for long ranges."""

    pk = models.CompositePrimaryKey("organisation_id", "series_id", "day")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    series_id = models.UUIDField()
    day = models.DateField()
    # These as in a quarter hour.
    value = models.DecimalField(max_digits=None, decimal_places=None)
    count = models.BigIntegerField()
    latest_at = models.DateTimeField(null=True)
    latest_key = models.UUIDField(null=True)

    class Meta:
        db_table = "usage_day"

    def __str__(self) -> str:
        return f"{self.series_id} {self.day}"


class UniqueValue(models.Model):
    """One of the different values of a series in a quarter hour, as a digest: numbers of them cannot be added."""

    pk = models.CompositePrimaryKey("organisation_id", "series_id", "starts_at", "digest")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    series_id = models.UUIDField()
    starts_at = models.DateTimeField()
    # The first 128 bits of the SHA-256 of the value as text.
    digest = models.UUIDField()

    class Meta:
        db_table = "usage_unique"

    def __str__(self) -> str:
        return f"{self.series_id} {self.digest}"


class UniqueDayValue(models.Model):
    """One of the different values of a series on a day of the organisation's `days_zone`, for long ranges."""

    pk = models.CompositePrimaryKey("organisation_id", "series_id", "day", "digest")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    series_id = models.UUIDField()
    day = models.DateField()
    digest = models.UUIDField()

    class Meta:
        db_table = "usage_unique_day"

    def __str__(self) -> str:
        return f"{self.series_id} {self.digest}"


class SeriesLimit(models.Model):
    """A meter of an organisation that had too many new series: until the month ends, its labels read "(other)".

    Written by `metering.bounding`, never changed: folding, comparing and rebuilding all go by it.
    """

    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="+")
    # Quarter hours from the first on, up to the second.
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    # New series of the month when it was noticed.
    series = models.PositiveIntegerField()
    noticed_at = models.DateTimeField()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["organisation", "meter", "ends_at"], name="series_limit_once"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} of {self.organisation}"
