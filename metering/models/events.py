"""Raw events, the batches they came in, and what was refused. Events are the truth: never edited, never lost.

The heavy tables carry the organisation first in their keys and have no foreign keys in the database, so that they
can be distributed by organisation. `event` is partitioned by the month of receipt (see `metering.partitions`).
"""

from typing import Self

from django.contrib.postgres.indexes import HashIndex
from django.db import models
from django.utils import timezone

from accounts.models import Organisation


class Event(models.Model):
    """A CloudEvent as accepted. Rows are written by `metering.intake` with COPY and read by folding and reports.

    Identity is (organisation, source, event id): `key` is the first 128 bits of the SHA-256 of both, and an index of
    each partition makes it unique within a month of receipt whatever the event's time.
    """

    pk = models.CompositePrimaryKey("organisation_id", "key", "receipt_month")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    batch_id = models.BigIntegerField()
    # When it happened, by the sender's clock; the receipt time where the sender gave none.
    time = models.DateTimeField()
    project_id = models.BigIntegerField()
    # Null: the event named the organisation only.
    api_key_id = models.BigIntegerField(null=True)
    # First day of the month of receipt (UTC): the partition.
    receipt_month = models.DateField()
    key = models.UUIDField()
    # True where `time` is the receipt time, so that a resend at another time is still a duplicate.
    time_assumed = models.BooleanField()
    source = models.TextField()
    event_id = models.TextField()
    type = models.TextField()
    subject = models.TextField()
    data = models.JSONField()

    class Meta:
        db_table = "event"

    def __str__(self) -> str:
        return f"{self.source} {self.event_id}"


class IngestBatchRows(models.QuerySet["IngestBatch"]):
    def pending(self) -> Self:
        """Batches whose events are not in the totals yet."""
        return self.filter(folded_at=None)


class IngestBatch(models.Model):
    """The events of one organisation committed together: the unit that folding claims and seals cover."""

    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    receipt_month = models.DateField()
    received_at = models.DateTimeField()
    # Which way in: cloudevents, usage_file, …
    format = models.CharField(max_length=32)
    # The credential that sent it; null: a command.
    service_token_id = models.BigIntegerField(null=True)
    event_count = models.PositiveIntegerField()
    # Accepted events that feed no meter: visible, so that nobody finds out at the month's end.
    unmatched_count = models.PositiveIntegerField(default=0)
    first_time = models.DateTimeField()
    last_time = models.DateTimeField()
    # Written by folding, in the transaction that adds the events to the totals. Null: pending.
    folded_at = models.DateTimeField(null=True)

    objects = IngestBatchRows.as_manager()

    class Meta:
        db_table = "ingest_batch"
        indexes = [
            models.Index(fields=["id"], condition=models.Q(folded_at=None), name="ingest_batch_pending"),
            models.Index(fields=["organisation", "received_at"], name="ingest_batch_by_receipt"),
        ]

    def __str__(self) -> str:
        return f"batch {self.pk}"


class RejectionReason(models.TextChoices):
    INVALID_EVENT = "invalid_event", "Not a valid CloudEvent"
    INVALID_VALUE = "invalid_value", "A metered value is not a finite number"
    UNKNOWN_SUBJECT = "unknown_subject", "Subject is not a known API key or organisation"
    TOO_OLD = "too_old", "Older than the late window"
    IN_FUTURE = "in_future", "Further in the future than clocks may differ"
    CONFLICT = "conflict", "Same source and id as an accepted event, with another body"
    TOO_LARGE = "too_large", "Larger than an event may be"
    INVALID_CORRECTION = "invalid_correction", "Not a correction that can be carried out"
    UNKNOWN_ORIGINAL = "unknown_original", "Corrects an event that is not known"
    ALREADY_CORRECTED = "already_corrected", "Corrects an event that is corrected already"


class RejectedEventRows(models.QuerySet["RejectedEvent"]):
    def open(self) -> Self:
        """What waits to be replayed or dismissed."""
        return self.filter(state=RejectedEvent.State.OPEN)

    def with_public_id(self, public_id: str) -> Self:
        return self.filter(digest=public_id.removeprefix(RejectedEvent.ID_PREFIX))


class RejectedEvent(models.Model):
    """What was refused or conflicted, kept whole so that it can be repaired and replayed."""

    ID_PREFIX = "rej_"

    class State(models.TextChoices):
        OPEN = "open", "Open"
        REPLAYED = "replayed", "Repaired and replayed"
        DISMISSED = "dismissed", "Dismissed"

    # Null: it could not be attributed to an organisation.
    organisation = models.ForeignKey(
        Organisation, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    reason = models.CharField(max_length=32, choices=RejectionReason)
    # A sentence that says what to do.
    detail = models.TextField()
    # Of the event where they could be read, empty otherwise.
    source = models.TextField(blank=True)
    event_id = models.TextField(blank=True)
    # The event as it arrived, decoded leniently and cut at 64 KiB.
    body = models.TextField()
    # SHA-256 of organisation, reason and body: the same refusal again only counts up.
    digest = models.CharField(max_length=64, unique=True)
    seen_count = models.PositiveIntegerField(default=1)
    format = models.CharField(max_length=32)
    service_token_id = models.BigIntegerField(null=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    # When it was replayed or dismissed; null: it is open.
    settled_at = models.DateTimeField(null=True)
    # The verdict on the replay, or why it was dismissed; of an open one, what the last replay said.
    settlement = models.TextField(blank=True, default="", db_default="")

    objects = RejectedEventRows.as_manager()

    class Meta:
        db_table = "rejected_event"
        ordering = ["-last_seen_at", "-pk"]
        indexes = [
            models.Index(fields=["state", "reason", "-last_seen_at"], name="rejected_event_work_list"),
            # Ids may be longer than an entry of a B-tree.
            HashIndex(fields=["event_id"], name="rejected_event_name"),
        ]

    def __str__(self) -> str:
        return f"{self.reason} {self.source} {self.event_id}"

    @property
    def public_id(self) -> str:
        """What the API calls it: its digest, which is there anyway and cannot be guessed."""
        return f"{self.ID_PREFIX}{self.digest}"
