"""What the nightly comparison of totals with events found."""

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


class TotalsCheck(models.Model):
    """One run of `metering.aggregation.compare_totals` over all organisations. Written by the task of that name."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    # Totals before this were left out, since events that they rest on were dropped. Null: none were.
    events_kept_from = models.DateTimeField(null=True)
    # Backfills that were under way: what they had not made yet was left out. See the next check for that.
    backfills = models.PositiveIntegerField(default=0, db_default=0)
    # How many totals were not what their events say; 0 is as it should be.
    differences = models.PositiveIntegerField()
    # The first of them, as text: organisation, series, period, figures.
    detail = models.JSONField(default=list, encoder=DjangoJSONEncoder)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {self.differences} differences"
