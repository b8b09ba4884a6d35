"""What corrections take back and count instead, in the terms of folding. Written once by intake, never changed.

A correction is an event like any other; this row says what it does to the totals, so that folding, comparing and
rebuilding need not look for the event it names.
"""

from django.db import models

from accounts.models import Organisation


class Correction(models.Model):
    """A void or an amendment of one event. The primary key lets an event be corrected once, whoever races."""

    pk = models.CompositePrimaryKey("organisation_id", "original_key", "original_month")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    # The event it names: `key` and `receipt_month` of its row, and its batch, which is folded first.
    original_key = models.UUIDField()
    original_month = models.DateField()
    original_batch_id = models.BigIntegerField()
    # The correction's own row among the events.
    key = models.UUIDField()
    receipt_month = models.DateField()
    batch_id = models.BigIntegerField()
    # Of the event that was metered first, also where this corrects an amendment: the difference falls where it counted.
    type = models.TextField()
    project_id = models.BigIntegerField()
    api_key_id = models.BigIntegerField(null=True)
    time = models.DateTimeField()
    # Data that no longer counts.
    taken_back = models.JSONField()
    # Data that counts in its place. Null: a void.
    counted_instead = models.JSONField(null=True)

    class Meta:
        db_table = "event_correction"
        constraints = [
            models.UniqueConstraint(fields=["organisation", "key", "receipt_month"], name="event_correction_once")
        ]
        indexes = [
            models.Index(fields=["batch_id"], name="event_correction_batch"),
            models.Index(fields=["organisation", "time"], name="event_correction_time"),
        ]

    def __str__(self) -> str:
        return f"correction {self.key}"
