"""What of an organisation's usage was billed, and what changed in it since, so that billing looks at that alone."""

from django.db import models
from django.db.models.functions import Now

from accounts.models import Organisation


class BilledUsage(models.Model):
    """Up to when an organisation's usage has been on an invoice. Written by billing as it closes periods, while nobody
    else writes the organisation's totals."""

    organisation = models.OneToOneField(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, primary_key=True, related_name="+"
    )
    # The latest end of a closed period, of whichever subscription. It never goes back.
    until = models.DateTimeField()

    class Meta:
        db_table = "billed_usage"
        verbose_name_plural = "billed usage"

    def __str__(self) -> str:
        return f"until {self.until:%Y-%m-%d %H:%M}"


class BilledUsageChange(models.Model):
    """Totals of before `BilledUsage.until` were written in [starts_at, ends_at). Written in the transaction that wrote
    them. Old ones are merged into one that covers all of them; none ever goes without that."""

    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    # Written by the database.
    noticed_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "billed_usage_change"
        ordering = ["-pk"]
        indexes = [models.Index(fields=["organisation", "id"], name="billed_usage_change_newest")]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M} to {self.ends_at:%Y-%m-%d %H:%M}"
