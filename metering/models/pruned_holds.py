"""What is remembered of holds that are no longer kept, so that counters can still be compared with events and holds."""

from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Organisation


class PrunedHoldsRows(models.QuerySet["PrunedHolds"]):
    def holds_kept_from(self) -> datetime | None:
        """Windows that begin then or later still have all their holds; None: nothing was ever pruned."""
        return self.values_list("kept_from", flat=True).first()

    def advance(self, kept_from: datetime) -> None:
        """It only ever moves forward."""
        self.get_or_create(pk=1, defaults={"kept_from": kept_from})
        self.filter(kept_from__lt=kept_from).update(kept_from=kept_from)


class PrunedHolds(models.Model):
    """From when on holds are kept: one row, written by `metering.pruning` before the first of them goes."""

    kept_from = models.DateTimeField()

    objects = PrunedHoldsRows.as_manager()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="pruned_holds_is_one_row")]

    def __str__(self) -> str:
        return f"kept from {self.kept_from:%Y-%m-%d %H:%M}"


class PrunedHoldEvent(models.Model):
    """An event that settled a hold which is no longer kept: on these quotas it counted by that hold.

    Only where one of them never resets, since only such a counter reaches back so far.
    """

    pk = models.CompositePrimaryKey("organisation_id", "event_key")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    event_key = models.UUIDField()
    quota_ids = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = "pruned_hold_event"

    def __str__(self) -> str:
        return str(self.event_key)
