"""Who is on which plan since when. Periods follow from the anchor alone."""

import zoneinfo
from typing import Self

from django.db import models
from django.utils import timezone

from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet
from billing.models.plans import PlanVersion


def subscription_id() -> str:
    return new_public_id("sub")


class SubscriptionState(models.TextChoices):
    TRIALING = "trialing", "Trial"
    ACTIVE = "active", "Active"
    PAST_DUE = "past_due", "Past due"
    PAUSED = "paused", "Paused"
    CANCELLED = "cancelled", "Cancelled"


class SubscriptionRows(OrganisationQuerySet["Subscription"]):
    def current(self) -> Self:
        """Subscriptions that still count usage; at most one per organisation."""
        return self.exclude(state=SubscriptionState.CANCELLED)


class Subscription(OrganisationOwned):
    public_id = models.CharField(max_length=32, unique=True, default=subscription_id, editable=False)
    currency = models.CharField(max_length=3)
    cadence = models.CharField(max_length=16)
    # Period n begins n times the cadence after this instant, by the wall clock of `time_zone`. On a quarter hour.
    anchor_at = models.DateTimeField()
    # The organisation's zone when it subscribed: a later change of the organisation's zone moves no period.
    time_zone = models.CharField(max_length=64)
    state = models.CharField(max_length=16, choices=SubscriptionState, default=SubscriptionState.ACTIVE)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null unless cancelled: the instant from which usage is no longer billed here.
    ends_at = models.DateTimeField(null=True, blank=True)
    # Nothing is charged before this instant. On a quarter hour; null without a trial.
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    # Null until the end of the trial was announced by e-mail.
    trial_reminded_at = models.DateTimeField(null=True, blank=True)
    # Null until late usage after the last invoice was looked at, once no more can come.
    settled_at = models.DateTimeField(null=True, blank=True)
    # Whose limits stand in metering; null: none's. Written by `plan_limits`.
    limits_of = models.ForeignKey(PlanVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    # Until when no credit of the plan is to be granted; null: it was never looked at. Written by `plan_credits`.
    credit_granted_until = models.DateTimeField(null=True, blank=True)

    objects = SubscriptionRows.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["organisation"],
                condition=~models.Q(state=SubscriptionState.CANCELLED),
                name="subscription_one_current_per_organisation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organisation} since {self.anchor_at:%Y-%m-%d}"

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.time_zone)


class SubscriptionPause(models.Model):
    """A time in which a subscription rests: nothing is charged. On quarter hours."""

    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="pauses")
    starts_at = models.DateTimeField()
    # Null until it is ended.
    ends_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["subscription", "starts_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription"],
                condition=models.Q(ends_at=None),
                name="subscription_one_pause_at_a_time",
            ),
            models.CheckConstraint(
                condition=models.Q(ends_at=None) | models.Q(ends_at__gt=models.F("starts_at")),
                name="subscription_pause_not_empty",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subscription} paused from {self.starts_at:%Y-%m-%d}"


class SubscriptionPhase(models.Model):
    """The plan version in force from an instant on, until the next phase. Phases begin on quarter hours."""

    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="phases")
    plan_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="phases")
    starts_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["subscription", "starts_at"]
        constraints = [
            models.UniqueConstraint(fields=["subscription", "starts_at"], name="subscription_phase_start_unique")
        ]

    def __str__(self) -> str:
        return f"{self.plan_version} from {self.starts_at:%Y-%m-%d}"
