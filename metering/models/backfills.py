"""Backfills: a meter counting events that came in before it was defined. The row is the job, and says how far it is."""

from datetime import datetime
from typing import Self

from django.db import models
from django.utils import timezone

from metering.models.meters import Meter


class MeterBackfillRows(models.QuerySet["MeterBackfill"]):
    def unfinished(self) -> Self:
        return self.filter(finished_at=None)


class MeterBackfill(models.Model):
    """One meter over [start, end), organisation by organisation and day by day. Written by `metering.backfilling`."""

    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="backfills")
    # A quarter hour; from it on the meter reads late events too.
    start = models.DateTimeField()
    # Where the meter began before.
    end = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=255)
    # Organisations with events between the two, and how many of them are done.
    organisations = models.PositiveIntegerField(default=0)
    organisations_done = models.PositiveIntegerField(default=0)
    # The organisation it is at, and up to when that is done; null: at none yet.
    organisation_id = models.BigIntegerField(null=True)
    done_until = models.DateTimeField(null=True)
    # Totals of quarter hours written so far.
    totals = models.PositiveBigIntegerField(default=0)
    stepped_at = models.DateTimeField(null=True)
    # Null while it runs.
    finished_at = models.DateTimeField(null=True)

    objects = MeterBackfillRows.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["meter"], condition=models.Q(finished_at=None), name="meter_backfill_one_at_a_time"
            ),
            models.CheckConstraint(condition=models.Q(end__gt=models.F("start")), name="meter_backfill_has_length"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} from {self.start:%Y-%m-%d %H:%M}"

    def missing_from(self, organisation_id: int) -> datetime | None:
        """From when up to `end` an organisation's totals are still to be made; None: they are made."""
        if self.finished_at is not None:
            return None
        if self.organisation_id == organisation_id:
            return self.done_until
        is_done = self.organisation_id is not None and organisation_id < self.organisation_id
        return None if is_done else self.start
