"""Usage files that operators uploaded: how they are to be read, how far they are, and what of them was refused.

The content lies in the database while it is needed, in pieces, so that any worker on any machine can take the import
on; it is deleted when the import has ended.
"""

from datetime import datetime
from typing import Self

from django.db import models
from django.utils import timezone

from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet


def import_id() -> str:
    return new_public_id("import")


class UsageImportRows(OrganisationQuerySet["UsageImport"]):
    def due(self, now: datetime) -> Self:
        """Confirmed and not finished, and nobody is at it."""
        free = models.Q(leased_until=None) | models.Q(leased_until__lt=now)
        return self.filter(free, state__in=(UsageImport.State.WAITING, UsageImport.State.RUNNING))


class UsageImport(OrganisationOwned):
    """One uploaded file. Written by `metering.usage_imports`."""

    class State(models.TextChoices):
        UPLOADED = "uploaded", "Waits for a look at its columns"
        WAITING = "waiting", "Waits for a worker"
        RUNNING = "running", "Being imported"
        DONE = "done", "Imported"
        FAILED = "failed", "Could not be read to its end"
        CANCELLED = "cancelled", "Cancelled"

    public_id = models.CharField(max_length=32, unique=True, default=import_id, editable=False)
    state = models.CharField(max_length=16, choices=State, default=State.UPLOADED)
    file_name = models.CharField(max_length=255)
    # csv, ndjson or parquet.
    format = models.CharField(max_length=16)
    # SHA-256 of the content in hexadecimal: part of the rows' identities.
    digest = models.CharField(max_length=64)
    byte_count = models.PositiveBigIntegerField()
    # Lines of text, or rows of Parquet.
    lines = models.PositiveBigIntegerField()
    # The columns that the file has, and field -> column as confirmed.
    present = models.JSONField(default=list)
    columns = models.JSONField(default=dict)
    # What holds for rows that do not say otherwise. Empty source: the file's digest; empty key: the organisation.
    source = models.CharField(max_length=255, blank=True)
    event_type = models.CharField(max_length=255)
    model = models.CharField(max_length=255, blank=True)
    api_key = models.CharField(max_length=32, blank=True)
    # Take rows older than the late window.
    backfill = models.BooleanField(default=False)
    # The last line that was committed; what is after it is still to come.
    lines_done = models.PositiveBigIntegerField(default=0)
    accepted = models.PositiveBigIntegerField(default=0)
    duplicates = models.PositiveBigIntegerField(default=0)
    conflicts = models.PositiveBigIntegerField(default=0)
    rejected = models.PositiveBigIntegerField(default=0)
    # Why it could not be read to its end.
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null: nobody has confirmed it.
    confirmed_at = models.DateTimeField(null=True)
    # Null: it has not ended.
    finished_at = models.DateTimeField(null=True)
    # Until then it is some worker's; null: nobody's.
    leased_until = models.DateTimeField(null=True)

    objects = UsageImportRows.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = "usage file"

    def __str__(self) -> str:
        return self.file_name

    @property
    def is_at_work(self) -> bool:
        return self.state in {self.State.WAITING, self.State.RUNNING}

    @property
    def percent(self) -> int:
        """How much of it is done."""
        if self.state == self.State.DONE:
            return 100
        return min(99, self.lines_done * 100 // self.lines) if self.lines else 0


class UsageImportPiece(models.Model):
    """A piece of the content, in order."""

    usage_import = models.ForeignKey(UsageImport, on_delete=models.CASCADE, related_name="pieces")
    position = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["usage_import", "position"], name="usage_import_piece_once")]

    def __str__(self) -> str:
        return f"{self.usage_import_id} piece {self.position}"


class UsageImportRefusal(models.Model):
    """A line that was rejected or conflicts; it is among the rejected events too."""

    usage_import = models.ForeignKey(UsageImport, on_delete=models.CASCADE, related_name="refusals")
    line = models.PositiveBigIntegerField()
    verdict = models.CharField(max_length=16)
    reason = models.CharField(max_length=32)
    detail = models.TextField()
    # The event that was made of the line, or what could be read of it; without secrets.
    body = models.TextField()

    class Meta:
        ordering = ["usage_import", "line"]
        constraints = [models.UniqueConstraint(fields=["usage_import", "line"], name="usage_import_line_once")]

    def __str__(self) -> str:
        return f"{self.usage_import_id} line {self.line}"
