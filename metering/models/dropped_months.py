"""Months whose events are no longer kept, and from when on all events are: the horizon that checks stop at."""

from datetime import datetime

from django.db import models

from metering import quarter_hours


class DroppedMonthRows(models.QuerySet["DroppedMonth"]):
    def events_kept_from(self) -> datetime | None:
        """The start of the first quarter hour of which no event was dropped; None: nothing ever was.

        Totals before it cannot be made from events again, and an event before it may have been received before.
        """
        latest = self.aggregate(latest=models.Max("last_time"))["latest"]
        return None if latest is None else quarter_hours.floor(latest) + quarter_hours.QUARTER_HOUR


class DroppedMonth(models.Model):
    """One month of receipt. Written by `metering.retention` before its partition goes, and kept for ever."""

    # First day of the month of receipt in UTC.
    month = models.DateField(unique=True)
    event_count = models.PositiveBigIntegerField()
    # The latest time of its events. Null: it had none.
    last_time = models.DateTimeField(null=True)
    # Path of the file that the events were written to; empty: none.
    archive = models.TextField(blank=True)
    # SHA-256 in hexadecimal, of NDJSON uncompressed or of the Parquet file; empty: no file.
    archive_digest = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField()
    # Null: dropping was interrupted, and the next attempt finishes it. The events do not count as kept any more.
    dropped_at = models.DateTimeField(null=True)

    objects = DroppedMonthRows.as_manager()

    class Meta:
        ordering = ["-month"]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"
