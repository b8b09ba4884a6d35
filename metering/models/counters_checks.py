"""What the nightly comparison of limits' counters with events and holds found."""

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


class CountersCheck(models.Model):
    """One run of `metering.recounting.compare_counters` over all organisations that have limits."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    # How many counters were not what events and holds say; 0 is as it should be.
    differences = models.PositiveIntegerField()
    # The first of them, as text.
    detail = models.JSONField(default=list, encoder=DjangoJSONEncoder)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {self.differences} differences"
