"""Seals: what an organisation's events of one day of receipt were, in 32 bytes, chained to the day before.

Written by `metering.sealing` once per finished day, never changed, by anybody: the database refuses. From then on it
also refuses to take further events into that day or an earlier one (see migration 0005_seals).
"""

from typing import Any

from django.db import models

from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet


def seal_id() -> str:
    return new_public_id("seal")


class Seal(OrganisationOwned):
    """One day of receipt of one organisation. Days without events have none: the chain goes on with the next."""

    public_id = models.CharField(max_length=32, unique=True, default=seal_id, editable=False)
    # The day in UTC of the batches' `received_at`.
    day = models.DateField()
    event_count = models.PositiveBigIntegerField()
    # Merkle root over the day's events in the order of their keys, in hexadecimal.
    root = models.CharField(max_length=64)
    # `digest` of the organisation's seal before this one; zeros for the first.
    previous_digest = models.CharField(max_length=64)
    # SHA-256 over organisation, day, count, root and previous digest: see `metering.canonical.seal_digest`.
    digest = models.CharField(max_length=64, unique=True)
    sealed_at = models.DateTimeField()

    objects: Any = OrganisationQuerySet.as_manager()

    class Meta:
        ordering = ["-day"]
        constraints = [
            models.UniqueConstraint(fields=["organisation", "day"], name="seal_once_per_day"),
            # The chain never forks, whoever seals at the same time.
            models.UniqueConstraint(fields=["organisation", "previous_digest"], name="seal_follows_once"),
            models.CheckConstraint(condition=models.Q(event_count__gt=0), name="seal_not_empty"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.digest[:12]}"


class SealTile(models.Model):
    """A hundred-odd neighbouring leaves of a day's tree: lets a proof read only them, and a check name what changed."""

    seal = models.ForeignKey(Seal, on_delete=models.PROTECT, related_name="tiles")
    # From 0; every tile but the last has `metering.leaves.TILE_LEAVES` leaves.
    position = models.PositiveIntegerField()
    # The key of its first event.
    first_key = models.UUIDField()
    # Root of its leaves.
    root = models.BinaryField()
    # Eight bytes per leaf: the last four of the event's key and the first four of the leaf's hash. They prove nothing;
    # they tell which event it was when the root says that one is not as it was.
    hints = models.BinaryField()

    class Meta:
        ordering = ["seal", "position"]
        constraints = [models.UniqueConstraint(fields=["seal", "position"], name="seal_tile_once")]

    def __str__(self) -> str:
        return f"{self.seal_id} {self.position}"
