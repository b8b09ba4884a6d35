"""Moving the subscribers of a plan version to another: a job with a row per subscription, the queue of its work."""

from typing import Any

from django.db import models
from django.utils import timezone

from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet
from billing.models.plans import PlanVersion
from billing.models.subscriptions import Subscription


def plan_move_id() -> str:
    return new_public_id("move")


class MoveTime(models.TextChoices):
    PERIOD_END = "period_end", "When each one's period ends"
    DATE = "date", "On a date"


class MoveState(models.TextChoices):
    PLANNED = "planned", "Planned"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"


class PlanMove(models.Model):
    public_id = models.CharField(max_length=32, unique=True, default=plan_move_id, editable=False)
    from_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    to_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    takes_effect = models.CharField(max_length=16, choices=MoveTime, default=MoveTime.PERIOD_END)
    # Where it is on a date; on a quarter hour.
    takes_effect_at = models.DateTimeField(null=True, blank=True)
    # Whether customers are told by e-mail once their change is made.
    is_announced = models.BooleanField(default=False)
    state = models.CharField(max_length=16, choices=MoveState, default=MoveState.PLANNED)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(takes_effect=MoveTime.DATE, takes_effect_at__isnull=False)
                | models.Q(takes_effect=MoveTime.PERIOD_END, takes_effect_at=None),
                name="plan_move_date_where_it_counts",
            ),
            models.CheckConstraint(
                condition=~models.Q(from_version=models.F("to_version")), name="plan_move_to_another_version"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.from_version} to {self.to_version}"


class MoveRowState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    MOVED = "moved", "Moved"
    SKIPPED = "skipped", "Left as it is"


class PlanMoveRow(OrganisationOwned):
    move = models.ForeignKey(PlanMove, on_delete=models.PROTECT, related_name="rows")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=16, choices=MoveRowState, default=MoveRowState.WAITING)
    # What its last period that ended came to, and would have by the other version, in minor units. Null: not computed
    # yet, or no such period.
    before_minor = models.BigIntegerField(null=True, blank=True)
    after_minor = models.BigIntegerField(null=True, blank=True)
    # Null until the figures were looked at.
    previewed_at = models.DateTimeField(null=True, blank=True)
    # Why it was left as it is.
    note = models.CharField(max_length=300, blank=True)
    moved_at = models.DateTimeField(null=True, blank=True)
    # Null until the e-mail was sent, where one is.
    announced_at = models.DateTimeField(null=True, blank=True)

    objects: Any = OrganisationQuerySet.as_manager()

    class Meta:
        ordering = ["move", "pk"]
        constraints = [models.UniqueConstraint(fields=["move", "subscription"], name="plan_move_row_once")]

    def __str__(self) -> str:
        return f"{self.subscription}: {self.get_state_display()}"
